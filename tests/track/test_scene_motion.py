"""Movement of tracks against the scene, under a still and a moving camera."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from canton.track.boxes import Box
from canton.track.scene_motion import SceneMotion
from canton.track.tracker import Track

FPS = 25.0
PAN = 3.0
"""Px a frame."""


@pytest.fixture(scope="module")
def scene() -> NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (256, 480)).astype(np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX)


@pytest.mark.parametrize("pan", [0.0, PAN])
@pytest.mark.parametrize("wide", [1, 2])
def test_movement_is_against_the_scene(scene: NDArray[np.uint8], pan: float, wide: int) -> None:
    """Track 1 stays at its place in the scene, track 2 at its place in the picture, track 3 flies."""
    motion = SceneMotion()
    for k in range(30):
        shift = np.float32([[1, 0, -pan * k], [0, 1, 0]])
        view = cv2.warpAffine(scene, shift, (256, 192))
        pixels = cv2.resize(view, None, fx=wide, fy=wide)[..., None].repeat(3, -1)
        places = ((160 - pan * k, 100), (80, 60), (20 + 2 * k, 150))
        tracks = [
            Track(n, Box.from_centre(x, y, 8, 8).scaled(wide), 0.9, k) for n, (x, y) in enumerate(places, 1)
        ]
        fixed, hanging, flying = motion.update(pixels, k / FPS, tracks)
        if k > 15:
            assert not fixed.moving
            assert fixed.speed < 2.5 * wide
            assert hanging.moving == (pan > 0)
            assert hanging.speed == pytest.approx(pan * FPS * wide, abs=3 * wide)
            assert flying.moving
            assert flying.speed == pytest.approx((2 + pan) * FPS * wide, rel=0.1)


def test_a_reset_forgets_the_places(scene: NDArray[np.uint8]) -> None:
    motion = SceneMotion()
    view = scene[:192, :256, None].repeat(3, -1)
    motion.update(view, 0.0, [Track(1, Box(0, 0, 8, 8), 0.9, 1)])
    motion.reset()
    (track,) = motion.update(view, 0.04, [Track(1, Box(90, 90, 8, 8), 0.9, 2)])
    assert (track.moving, track.speed) == (False, 0.0)
