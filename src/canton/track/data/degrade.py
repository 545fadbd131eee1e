"""Footage made harder: the thing's contrast against its surroundings cut, and sensor noise added."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from canton.track.boxes import Box

CONTRAST = 0.25
NOISE = 20.0
"""The hard clips of the evaluation: a quarter of the contrast, Gaussian noise of sd 20 of 255."""


def reduce_contrast(picture: NDArray[np.float32], box: Box, share: float) -> None:
    """Leave `share` of the contrast between what is in `box` and its surroundings, in place.

    The surroundings are carried over the box from its rim, a little outside: along straight lines between
    opposite edges (a Coons patch, Coons 1967, MIT MAC-TR-41), within the range of values on the rim. The rim
    itself is not changed, so that no edge shows where the box was.

    picture: (H, W, C), of any range.
    """
    height, width = picture.shape[:2]
    margin = max(2.0, 0.25 * max(box.width, box.height))
    left, right = math.floor(max(0, box.x - margin)), math.ceil(min(width - 1, box.x + box.width + margin))
    top, bottom = math.floor(max(0, box.y - margin)), math.ceil(min(height - 1, box.y + box.height + margin))
    if right - left < 2 or bottom - top < 2:
        return
    patch = picture[top : bottom + 1, left : right + 1]
    u = np.linspace(0, 1, patch.shape[1], dtype=np.float32)[None, :, None]
    v = np.linspace(0, 1, patch.shape[0], dtype=np.float32)[:, None, None]
    corners = (1 - v) * ((1 - u) * patch[0, 0] + u * patch[0, -1])
    corners = corners + v * ((1 - u) * patch[-1, 0] + u * patch[-1, -1])
    behind = (1 - u) * patch[:, :1] + u * patch[:, -1:] + (1 - v) * patch[:1] + v * patch[-1:] - corners
    rim = np.concatenate([patch[0], patch[-1], patch[:, 0], patch[:, -1]])
    behind = np.clip(behind, rim.min(0), rim.max(0))
    patch[:] = behind + share * (patch - behind)


def degrade(
    frames: NDArray[np.uint8], boxes: tuple[tuple[Box, ...], ...], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """The frames (T, H, W, C) of a hard clip; see `CONTRAST` and `NOISE`."""
    pictures = frames.astype(np.float32)
    for picture, here in zip(pictures, boxes, strict=True):
        for box in here:
            reduce_contrast(picture, box, CONTRAST)
        picture += rng.standard_normal(picture.shape, dtype=np.float32) * NOISE
    return np.asarray(np.clip(pictures + 0.5, 0, 255), np.uint8)
