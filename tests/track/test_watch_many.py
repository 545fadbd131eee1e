"""Several films on the batch axis."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("av", reason="av is not installed (canton-torch[track])")
cv2 = pytest.importorskip("cv2", reason="opencv is not installed (canton-torch[track])")
pytest.importorskip("trackers", reason="trackers is not installed (canton-torch[track])")

from canton.track.model import Architecture, TrackModel
from canton.track.pipeline import FrameResult, track_video
from canton.track.video.reader import open_video
from canton.track.watch_many import watch_many


def film(folder: Path, frames: int, seed: int, height: int = 48, other_from: int | None = None) -> Path:
    """Write pictures of a bright square over noise, of another size from one frame on."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for k in range(frames):
        size = (height, 64) if other_from is None or k < other_from else (40, 64)
        image = rng.integers(0, 120, (*size, 3), np.uint8)
        image[10:18, 4 + 2 * k : 12 + 2 * k] = 255
        cv2.imwrite(str(folder / f"{k}.png"), image)
    return folder


def test_equal_to_single_runs(tmp_path: Path) -> None:
    """Films of different lengths and sizes, one of which changes its size to that of another."""
    torch.manual_seed(0)
    model = TrackModel(Architecture(stem=((8, 3, True), (8, 3, True)), memory=8)).eval()
    with torch.no_grad():
        model.maps.bias[0] = 0.5
    paths = [
        film(tmp_path / "a", 9, 1),
        film(tmp_path / "b", 5, 2),
        film(tmp_path / "c", 8, 3, height=40),
        film(tmp_path / "d", 12, 4, other_from=4),
        film(tmp_path / "e", 12, 5),
    ]
    alone: list[list[FrameResult]] = []
    for path in paths:
        with open_video(path) as video:
            alone.append(list(track_video(model, video, fps=30, threshold=0.6)))
    together: list[list[FrameResult]] = [[] for _ in paths]
    with ExitStack() as stack:
        videos = [stack.enter_context(open_video(path)) for path in paths]
        for number, result in watch_many(model, videos, threshold=0.6):
            together[number].append(result)
    assert sum(len(result.tracks) for film in alone for result in film) > 20
    for one, other in zip(alone, together, strict=True):
        assert [result.frame.index for result in one] == [result.frame.index for result in other]
        for single, batched in zip(one, other, strict=True):
            np.testing.assert_allclose(single.heatmap, batched.heatmap, atol=1e-4)
            assert [track.id for track in single.tracks] == [track.id for track in batched.tracks]
            boxes = np.array([track.box for track in single.tracks]).reshape(-1, 4)
            np.testing.assert_allclose(
                boxes, np.array([track.box for track in batched.tracks]).reshape(-1, 4), atol=1e-2
            )
