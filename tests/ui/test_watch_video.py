"""A video watched for a visitor: the film that is written lasts as long as what was watched."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

av = pytest.importorskip("av", reason="av is not here (canton-torch[track])")
pytest.importorskip("cv2", reason="opencv is not here (canton-torch[track])")
pytest.importorskip("trackers", reason="trackers is not here (canton-torch[track])")


def test_the_film_of_uneven_frames_keeps_their_times(tmp_path: Path) -> None:
    from canton.ui.watch_video import screen
    from track.pipeline_stub import Bright, flight

    made = SimpleNamespace(model=Bright(), header={})
    times = [0, 0.1, 0.2, 1.5, 1.6, 4.0]
    frames = [frame._replace(seconds=times[frame.index]) for frame in flight(len(times))]
    *_, last = screen(made, frames, tmp_path, threading.Event(), fps=10, seconds=4.1, threshold=0.5)
    assert last.film is not None
    with av.open(str(last.film)) as container:
        assert [frame.time for frame in container.decode(video=0)] == pytest.approx(times, abs=1e-3)
