"""What a camera does to the light: its motion and softness, the sensor's noise, the compression."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from canton.errors import require
from canton.track.synthetic.meshes import Floats
from canton.track.synthetic.noise import Draw

if TYPE_CHECKING:
    import cv2
else:
    cv2 = require("cv2", extra="track")

Pixels = NDArray[np.uint8]
LONGEST = 25
"""px of the longest streak."""


class Lens(NamedTuple):
    """shutter: share of the time between frames that it is open. soft_px: standard deviation of the blur.
    gain, lift: brightness, gain * (value - 128) + 128 + lift. noise_sd: of each px and frame, of 255.
    lines_sd: of the rows and columns, the same in every frame. quality: of the JPEG, 1 to 100, None for none.
    order: of the colour channels.
    """

    shutter: float
    soft_px: float
    gain: float
    lift: float
    noise_sd: float
    lines_sd: float
    quality: int | None
    order: tuple[int, ...]


def day_lens(draw: Draw) -> Lens:
    """A camera for visible light."""
    return Lens(
        shutter=draw.uniform(0.0, 0.9),
        soft_px=draw.uniform(0.3, 1.0) if draw.random() < 0.5 else 0.0,
        gain=draw.uniform(0.6, 1.15),
        lift=draw.uniform(-35, 25),
        noise_sd=draw.uniform(0.5, 4) if draw.random() < 0.8 else draw.uniform(4, 16),
        lines_sd=0.0,
        quality=int(draw.integers(25, 98)) if draw.random() < 0.7 else None,
        order=tuple(draw.permutation(3).tolist()) if draw.random() < 0.5 else (0, 1, 2),
    )


def heat_lens(draw: Draw, *, hard: bool) -> Lens:
    """A thermal camera; hard: with the noise of one that has little to see."""
    return Lens(
        shutter=draw.uniform(0.0, 0.4),
        soft_px=draw.uniform(0.4, 0.9),
        gain=1.0,
        lift=0.0,
        noise_sd=draw.uniform(8, 22) if hard else draw.uniform(0.6, 2.0) ** 2,
        lines_sd=draw.uniform(0.2, 0.9) if draw.random() < 0.6 else 0.0,
        quality=int(draw.integers(40, 98)) if draw.random() < 0.8 else None,
        order=(0,),
    )


def smear(picture: Floats | Pixels, motion: tuple[float, float]) -> Floats | Pixels:
    """The picture as it moves by `motion` px, columns and rows, while the shutter is open."""
    longest = max(abs(motion[0]), abs(motion[1]))
    if longest < 0.75:
        return picture
    share = min(1.0, LONGEST / longest)
    kernel = _streak(round(2 * motion[0] * share), round(2 * motion[1] * share))
    return cv2.filter2D(picture, -1, kernel, borderType=cv2.BORDER_REPLICATE)  # type: ignore[return-value]


@lru_cache(512)
def _streak(dx: int, dy: int) -> Floats:
    """A line through the middle of a square, `dx`, `dy` half px long."""
    half = math.ceil(max(abs(dx), abs(dy)) / 4) + 1
    kernel = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
    count = 4 * half + 1
    for share in np.linspace(-0.25, 0.25, count):
        x, y = half + share * dx, half + share * dy
        left, top = math.floor(x), math.floor(y)
        fx, fy = x - left, y - top
        kernel[top : top + 2, left : left + 2] += np.outer([1 - fy, fy], [1 - fx, fx])
    return np.asarray(kernel / kernel.sum(), np.float32)


def soften(picture: Pixels, lens: Lens) -> Pixels:
    """The picture as the lens draws it."""
    if lens.soft_px == 0:
        return picture
    soft = np.asarray(cv2.GaussianBlur(picture, (0, 0), lens.soft_px), np.uint8)
    return soft if soft.ndim == 3 else soft[..., None]  # OpenCV drops the axis of a single channel


def lines(draw: Draw, height: int, width: int, sd: float) -> Floats | None:
    """What rows and columns are brighter by, (height, width, 1), as amplifiers differ; None for none."""
    if sd == 0:
        return None
    rows, columns = draw.normal(0, sd, (height, 1, 1)), draw.normal(0, sd, (1, width, 1))
    return np.asarray(rows + columns, np.float32)


def develop(draw: Draw, picture: Pixels, lens: Lens, fixed: Floats | None = None) -> Pixels:
    """(height, width, 1 or 3) with the sensor's noise, `fixed` and the compression: (height, width, 3)."""
    value = draw.standard_normal(picture.shape, np.float32)
    value *= np.float32(lens.noise_sd)
    value += np.float32(lens.gain) * picture
    value += np.float32(128 - 128 * lens.gain + lens.lift + 0.5)
    if fixed is not None:
        value += fixed
    np.clip(value, 0, 255, out=value)
    return compress(value.astype(np.uint8), lens)


def compress(picture: Pixels, lens: Lens) -> Pixels:
    """(height, width, 1 or 3) as it comes back from a JPEG, its channels in the lens's order."""
    colour = picture.shape[2] == 3
    if lens.quality is not None:
        way = [cv2.IMWRITE_JPEG_QUALITY, lens.quality]
        coded = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR) if colour else picture, way)[1]
        picture = cv2.imdecode(coded, cv2.IMREAD_COLOR_RGB if colour else cv2.IMREAD_GRAYSCALE)  # type: ignore[assignment]
    if not colour:
        return np.asarray(cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB), np.uint8)
    return picture if lens.order == (0, 1, 2) else np.ascontiguousarray(picture[..., list(lens.order)])
