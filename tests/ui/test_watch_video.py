"""Tracking a video for the page."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

av = pytest.importorskip("av", reason="av is not installed (canton-torch[track])")
pytest.importorskip("cv2", reason="opencv is not installed (canton-torch[track])")
pytest.importorskip("trackers", reason="trackers is not installed (canton-torch[track])")


def test_the_output_video_keeps_uneven_frame_times(tmp_path: Path) -> None:
    from canton.ui.watch_video import watch_video
    from track.pipeline_stub import Bright, flight

    model = SimpleNamespace(model=Bright(), header={})
    times = [0, 0.1, 0.2, 1.5, 1.6, 4.0]
    frames = [frame._replace(seconds=times[frame.index]) for frame in flight(len(times))]
    *_, last = watch_video(model, frames, tmp_path, threading.Event(), fps=10, seconds=4.1, threshold=0.5)
    assert last.video is not None
    with av.open(str(last.video)) as container:
        assert [frame.time for frame in container.decode(video=0)] == pytest.approx(times, abs=1e-3)
