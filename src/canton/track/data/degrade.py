"""Degradation of frames: lower contrast of the objects, and sensor noise."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from canton.track.boxes import Box

CONTRAST = 0.25
"""Contrast factor of the hard clips of the evaluation."""
NOISE = 20.0
"""Standard deviation of their Gaussian noise, of 255."""


def reduce_contrast(image: NDArray[np.float32], box: Box, factor: float) -> None:
    """Multiply the contrast between the object in `box` and its background by `factor`, in place.

    The background is interpolated from a border slightly outside the box by a Coons patch (Coons 1967, MIT
    MAC-TR-41) and clipped to the border's range. The border is not changed, so that no edge appears.

    Args:
        image: (H, W, C), of any range.
        box: the object, in px.
        factor: 0 removes the object; a negative factor inverts it.
    """
    height, width = image.shape[:2]
    margin = max(2.0, 0.25 * max(box.width, box.height))
    left, right = math.floor(max(0, box.x - margin)), math.ceil(min(width - 1, box.x + box.width + margin))
    top, bottom = math.floor(max(0, box.y - margin)), math.ceil(min(height - 1, box.y + box.height + margin))
    if right - left < 2 or bottom - top < 2:
        return
    patch = image[top : bottom + 1, left : right + 1]
    u = np.linspace(0, 1, patch.shape[1], dtype=np.float32)[None, :, None]
    v = np.linspace(0, 1, patch.shape[0], dtype=np.float32)[:, None, None]
    corners = (1 - v) * ((1 - u) * patch[0, 0] + u * patch[0, -1])
    corners = corners + v * ((1 - u) * patch[-1, 0] + u * patch[-1, -1])
    background = (1 - u) * patch[:, :1] + u * patch[:, -1:] + (1 - v) * patch[:1] + v * patch[-1:] - corners
    border = np.concatenate([patch[0], patch[-1], patch[:, 0], patch[:, -1]])
    background = np.clip(background, border.min(0), border.max(0))
    patch[:] = background + factor * (patch - background)


def degrade(
    frames: NDArray[np.uint8], boxes: tuple[tuple[Box, ...], ...], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Return frames (T, H, W, C) with the objects at `CONTRAST` and Gaussian noise of `NOISE`."""
    images = frames.astype(np.float32)
    for image, frame_boxes in zip(images, boxes, strict=True):
        for box in frame_boxes:
            reduce_contrast(image, box, CONTRAST)
        image += rng.standard_normal(image.shape, dtype=np.float32) * NOISE
    return np.asarray(np.clip(images + 0.5, 0, 255), np.uint8)
