"""Detection of colour, which selects the pretrained model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av", reason="av is not installed (canton-torch[track])")
cv2 = pytest.importorskip("cv2", reason="opencv is not installed (canton-torch[track])")

from canton.track.video.reader import open_video


def test_has_colour(tmp_path: Path) -> None:
    """The first frame decides, in colour and in gray; slight tints from compression do not count."""
    grey = np.random.default_rng(0).integers(60, 200, (64, 96, 1), np.uint8).repeat(3, -1)
    tinted = grey.copy()
    tinted[:32, :16, 2] += 6
    sky = grey + np.array([0, 3, 6], np.uint8)
    for name, image, coloured in (
        ("grey", grey, False),
        ("tinted", tinted, False),
        ("sky", sky, True),
        ("black", grey // 16, True),
    ):
        folder = tmp_path / name
        folder.mkdir()
        for k in range(2):
            cv2.imwrite(str(folder / f"{k}.png"), image)
        for gray in (False, True):
            with open_video(folder, gray=gray) as video:
                assert video.has_colour == coloured, name
                assert len(list(video)) == 2
                assert video.has_colour == coloured, "the value is cached"
    with open_video(tmp_path / "sky") as video:
        next(iter(video))
        with pytest.raises(RuntimeError, match="before"):
            _ = video.has_colour
