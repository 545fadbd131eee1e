"""Shot boundaries are detected; motion, flicker and panning are not."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from canton.track.video.shot_boundary import ShotBoundaryDetector


def cuts(images: Iterable[np.ndarray]) -> list[int]:
    finder = ShotBoundaryDetector()
    return [k for k, image in enumerate(images) if finder.is_cut(image)]


def scene(seed: int, width: int = 640) -> np.ndarray:
    """Return an image (96, width, 3) of large patches."""
    coarse = np.random.default_rng(seed).integers(0, 255, (4, width // 32), np.uint8)
    return np.repeat(np.repeat(coarse, 24, 0), 32, 1)[..., None].repeat(3, 2)


def test_cuts_are_detected() -> None:
    assert cuts(scene(k // 10) for k in range(30)) == [0, 10, 20]
    assert cuts(scene(k // 10)[..., :1] for k in range(30)) == [0, 10, 20]


def test_cuts_close_together() -> None:
    """A cut is compared with the frames of its own shot only, and not with the cut before."""
    order = [0] * 10 + [1, 2, 2, 3, 3, 3, 4] + [5] * 4
    assert cuts(scene(k) for k in order) == [0, 10, 11, 13, 16, 17]


def test_a_faint_cut_soon_after_a_fast_pan() -> None:
    """The pan's differences are 0.03, a quarter of the cut's; those of its own shot are 0."""
    wide = scene(0, 1280)
    panned = [wide[:, 4 * k : 4 * k + 160] for k in range(20)]
    still = scene(7, 160)
    faint = np.clip(still.astype(int) + 35, 0, 255).astype(np.uint8)
    assert cuts([*panned, still, still, faint, faint]) == [0, 20, 22]
    assert cuts([still, still, faint, faint]) == [0, 2]


def test_places_are_compared() -> None:
    """Halves that change places are a cut; details within one cell of the thumbnail are none."""
    half = np.full((64, 64, 3), 40, np.uint8)
    half[32:] = 200
    for image in (half, half.swapaxes(0, 1)):
        assert cuts([image, image, image[::-1, ::-1]]) == [0, 2]
    sign = np.tile([1, 1, -1, -1, -1, -1, 1, 1], 8)  # cells are 4 px wide here: each has the mean 128
    flat, columns = np.full((64, 64, 3), 128, np.uint8), np.full((64, 64, 3), 128, np.uint8)
    columns += (60 * sign[None, :, None]).astype(np.uint8)  # modulo 256
    for fine in (columns, columns.swapaxes(0, 1)):
        assert cuts([flat, flat, fine, flat]) == [0]


def test_motion_is_no_cut() -> None:
    def images() -> Iterable[np.ndarray]:
        for k in range(40):
            image = scene(0, 160).copy()
            image[30:60, 3 * k : 3 * k + 30] = 255 - image[30:60, 3 * k : 3 * k + 30]
            yield image

    assert cuts(images()) == [0]


def test_panning_is_no_cut() -> None:
    """The whole image moves by 8 px per frame."""
    wide = scene(0, 1280)
    assert cuts(wide[:, 8 * k : 8 * k + 160] for k in range(100)) == [0]


def test_noise_is_no_cut() -> None:
    rng = np.random.default_rng(0)
    assert cuts(
        np.clip(scene(0) + rng.normal(0, 25, (96, 640, 1)), 0, 255).astype(np.uint8) for _ in range(9)
    ) == [0]


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (17, 5)])
def test_any_size(size: tuple[int, int]) -> None:
    dark, bright = np.zeros((*size, 3), np.uint8), np.full((*size, 3), 255, np.uint8)
    assert cuts([dark, dark, bright, bright]) == [0, 2]
