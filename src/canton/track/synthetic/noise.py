"""Fractal chance: smooth fields that look alike at every scale, as clouds, hills and weathered walls do."""

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

Draw = np.random.Generator


def fractal(
    draw: Draw,
    width: int,
    height: int,
    *,
    cells: float = 3.0,
    octaves: int = 5,
    fade: float = 0.55,
    stretch: float = 1.0,
) -> Floats:
    """A field (height, width) of mean 0 and standard deviation about 1.

    Args:
        cells: across the height, in the coarsest of the octaves.
        fade: amplitude of an octave, as a share of the coarser one before it.
        stretch: how many times wider than high its forms are.
    """
    field = np.zeros((height, width), np.float32)
    amplitude, power = 1.0, 0.0
    for _ in range(octaves):
        rows = min(height, math.ceil(cells) + 2)
        columns = min(width, math.ceil(cells * width / height / stretch) + 2)
        coarse = draw.standard_normal((rows, columns), np.float32) * np.float32(amplitude)
        way = cv2.INTER_CUBIC if rows < height / 2 else cv2.INTER_LINEAR
        field += cv2.resize(coarse, (width, height), interpolation=way)
        power += amplitude**2
        amplitude, cells = amplitude * fade, cells * 2
    field /= np.float32(0.75 * math.sqrt(power))
    return field


def ridge(draw: Draw, width: int, *, cells: float, octaves: int, fade: float = 0.5) -> Floats:
    """A line of hills or roofs: (width,), of mean 0 and standard deviation about 1."""
    field = fractal(draw, width, 4, cells=cells * 4 / width, octaves=octaves, fade=fade)
    return np.asarray(field[2], np.float32)


def ramp(top: Floats, bottom: Floats, height: int, bend: float = 1.0) -> Floats:
    """Colours (height, 1, C) that pass from `top` to `bottom`."""
    share = np.linspace(0, 1, height, dtype=np.float32)[:, None, None] ** np.float32(bend)
    return np.asarray(top * (1 - share) + bottom * share, np.float32)


def below(line: Floats, height: int, soft: float = 1.0) -> Floats:
    """1 below a line of rows (width,), 0 above, (height, width, 1)."""
    rows = np.arange(height, dtype=np.float32)[:, None]
    share = np.clip((rows - line[None, :]) / np.float32(soft) + np.float32(0.5), 0, 1)
    return np.asarray(share[..., None], np.float32)
