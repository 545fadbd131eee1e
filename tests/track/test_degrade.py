"""Degraded footage: lower contrast of the objects, unchanged background, noise."""

from __future__ import annotations

import numpy as np

from canton.track.boxes import Box
from canton.track.data.degrade import NOISE, degrade, reduce_contrast

BOX = Box(20, 16, 8, 6)


def image(sky: np.ndarray, contrast: float) -> np.ndarray:
    made = sky.astype(np.float32).copy()
    made[16:22, 20:28] += contrast
    return made


def test_contrast_is_reduced() -> None:
    rows, columns = np.mgrid[:48, :64].astype(np.float32)
    sky = (40 + 2 * columns + rows)[..., None]  # a slope, which a Coons patch carries over exactly
    faded = image(sky, 60)
    reduce_contrast(faded, BOX, 0.25)
    np.testing.assert_allclose(faded, image(sky, 15), atol=1e-3)


def test_box_over_the_edge() -> None:
    flat = np.full((48, 64, 3), 90, np.float32)
    for box in (Box(-30, -30, 5, 5), Box(60, 44, 10, 10), Box(-3, 10, 6, 6)):
        reduce_contrast(flat, box, 0.25)
    np.testing.assert_allclose(flat, 90, atol=1e-3)


def test_noise() -> None:
    frames = np.full((3, 64, 64, 1), 128, np.uint8)
    hard = degrade(frames, ((), (), ()), np.random.default_rng(0)).astype(float)
    assert abs(hard.std() - NOISE) < 0.5
    assert abs(hard.mean() - 128) < 0.5
    assert abs(np.corrcoef(hard[0].ravel(), hard[1].ravel())[0, 1]) < 0.05
