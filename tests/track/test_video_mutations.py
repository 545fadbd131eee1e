"""Mutated films: reading ends with frames or with one line, never with another error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av", reason="av is not installed (canton-torch[track])")
cv2 = pytest.importorskip("cv2", reason="opencv is not installed (canton-torch[track])")

from canton.errors import UserError
from canton.track.video.reader import open_video
from track.videos import noise, plain, write_video

FILMS = 300


def originals(folder: Path) -> list[Path]:
    """Write one film per container and kind of picture."""
    films = [
        write_video(folder / name, noise(12), codec=codec)
        for name, codec in (
            ("a.mp4", "libx264"),
            ("a.mkv", "ffv1"),
            ("a.avi", "mpeg4"),
            ("a.ts", "libx264"),
            ("a.webm", "libvpx"),
            ("a.flv", "flv"),
        )
    ]
    pages = [plain(k) for k in range(4)]
    cv2.imwritemulti(str(folder / "a.tif"), pages)
    animation = cv2.Animation()
    animation.frames, animation.durations = noise(4)[..., ::-1], [40] * 4
    cv2.imwriteanimation(str(folder / "a.webp"), animation)
    cv2.imwrite(str(folder / "a.png"), noise(1)[0].astype(np.uint16) * 30)
    return [*films, folder / "a.tif", folder / "a.webp", folder / "a.png"]


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """Return the content with a part overwritten, removed, repeated or cut off."""
    data = bytearray(content)
    start = int(rng.integers(0, len(data)) * rng.random() ** 2)
    length = int(rng.integers(1, 400))
    match int(rng.integers(0, 5)):
        case 0:
            data[start : start + length] = bytes(len(data[start : start + length]))
        case 1:
            data[start : start + length] = rng.bytes(len(data[start : start + length]))
        case 2:
            del data[start : start + length]
        case 3:
            data[start:start] = data[start : start + length]
        case _:
            del data[max(1, start) :]
    return bytes(data)


@pytest.mark.slow
def test_no_mutated_film_raises_another_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(24)
    films = [(path.suffix, path.read_bytes()) for path in originals(tmp_path)]
    outcomes = {"whole": 0, "skipped": 0, "ended early": 0, "refused": 0}
    for k in range(FILMS):
        suffix, content = films[k % len(films)]
        path = tmp_path / f"mutated{suffix}"
        path.write_bytes(mutated(content, rng))
        try:
            with open_video(path, gray=k % 2 == 1) as video:
                _ = video.has_colour
                for frame in video:
                    assert frame.pixels.dtype == np.uint8
                lines = [video.problem or ""]
                kind = "ended early" if video.problem else "skipped" if video.damaged else "whole"
        except UserError as error:
            kind, lines = "refused", [str(error)]
        outcomes[kind] += 1
        assert all("\n" not in line for line in lines), lines
    assert min(outcomes.values()) > 5, outcomes
