"""Fractal noise: smooth random fields that look alike at every scale."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from canton.errors import require
from canton.track.synthetic.meshes import Floats

if TYPE_CHECKING:
    import cv2
else:
    cv2 = require("cv2", extra="track")

Rng = np.random.Generator


def fractal_noise(
    rng: Rng,
    width: int,
    height: int,
    *,
    cells: float = 3.0,
    octaves: int = 5,
    persistence: float = 0.55,
    stretch: float = 1.0,
) -> Floats:
    """Return a field (height, width) with mean 0 and a standard deviation of about 1.

    Args:
        cells: number of cells along the height in the coarsest octave.
        octaves: number of octaves.
        persistence: amplitude of an octave relative to the coarser one.
        stretch: ratio of width to height of the cells.
    """
    field = np.zeros((height, width), np.float32)
    amplitude, power = 1.0, 0.0
    for _ in range(octaves):
        rows = min(height, math.ceil(cells) + 2)
        columns = min(width, math.ceil(cells * width / height / stretch) + 2)
        coarse = rng.standard_normal((rows, columns), np.float32) * np.float32(amplitude)
        interpolation = cv2.INTER_CUBIC if rows < height / 2 else cv2.INTER_LINEAR
        field += cv2.resize(coarse, (width, height), interpolation=interpolation)
        power += amplitude**2
        amplitude, cells = amplitude * persistence, cells * 2
    field /= np.float32(0.75 * math.sqrt(power))
    return field


def ridge(rng: Rng, width: int, *, cells: float, octaves: int, persistence: float = 0.5) -> Floats:
    """Return a line (width,) of hills or roofs, with mean 0 and a standard deviation of about 1."""
    field = fractal_noise(rng, width, 4, cells=cells * 4 / width, octaves=octaves, persistence=persistence)
    return np.asarray(field[2], np.float32)


def gradient(top: Floats, bottom: Floats, height: int, bend: float = 1.0) -> Floats:
    """Return colours (height, 1, C) from `top` to `bottom`."""
    share = np.linspace(0, 1, height, dtype=np.float32)[:, None, None] ** np.float32(bend)
    return np.asarray(top * (1 - share) + bottom * share, np.float32)


def mask_below(line: Floats, height: int, soft: float = 1.0) -> Floats:
    """Return a mask (height, width, 1): 1 below a line of rows (width,), 0 above it."""
    rows = np.arange(height, dtype=np.float32)[:, None]
    share = np.clip((rows - line[None, :]) / np.float32(soft) + np.float32(0.5), 0, 1)
    return np.asarray(share[..., None], np.float32)
