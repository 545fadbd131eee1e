"""`canton track watch` with very small frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av", reason="av is not installed (canton-torch[track])")
cv2 = pytest.importorskip("cv2", reason="opencv is not installed (canton-torch[track])")
pytest.importorskip("trackers", reason="trackers is not installed (canton-torch[track])")

from canton.track.checkpoint import save_model
from canton.track.model import ARTICLE, Architecture, TrackModel
from cli.conftest import Canton


def pictures(folder: Path, width: int, height: int) -> Path:
    folder.mkdir()
    for k in range(2):
        cv2.imwrite(str(folder / f"{k}.png"), np.full((height, width, 3), 90, np.uint8))
    return folder


@pytest.mark.parametrize(("width", "height"), [(1, 1), (2, 2), (30, 30), (31, 64), (64, 31)])
def test_frames_too_small_for_the_article_network(
    canton: Canton, tmp_path: Path, width: int, height: int
) -> None:
    model, lines, out = tmp_path / "article.safetensors", tmp_path / "seen.jsonl", tmp_path / "out.mp4"
    save_model(model, TrackModel(ARTICLE), {})
    small = pictures(tmp_path / "small", width, height)
    line = canton.complains("track", "watch", model, small, "--json", lines, "--out", out)
    assert f"{width} x {height}" in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["article.safetensors", "small"]


def test_frames_just_large_enough(canton: Canton, tmp_path: Path) -> None:
    model = tmp_path / "article.safetensors"
    save_model(model, TrackModel(ARTICLE), {})
    done = canton("track", "watch", model, pictures(tmp_path / "small", 32, 32), "--json", "-")
    assert done.status == 0, done.err
    assert len(done.out.splitlines()) == 2


@pytest.mark.parametrize(("width", "height"), [(1, 1), (2, 2), (900, 1)])
def test_no_frame_is_too_small_with_padding(canton: Canton, tmp_path: Path, width: int, height: int) -> None:
    """Also a flat frame that is downscaled to less than half a px."""
    model = tmp_path / "model.safetensors"
    save_model(model, TrackModel(Architecture(stem=((4, 3, True), (4, 3, True)), memory=4)), {})
    done = canton(
        "track", "watch", model, pictures(tmp_path / "small", width, height), "--width", "320", "--json", "-"
    )
    assert done.status == 0, done.err
    assert len(done.out.splitlines()) == 2
