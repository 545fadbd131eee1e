"""Camera model: motion blur, lens blur, sensor noise, compression."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from canton.errors import require
from canton.track.synthetic.meshes import Floats
from canton.track.synthetic.noise import Rng

if TYPE_CHECKING:
    import cv2
else:
    cv2 = require("cv2", extra="track")

Pixels = NDArray[np.uint8]
MAX_STREAK_PX = 25
"""Longest motion blur, in px."""


class Camera(NamedTuple):
    """A camera model.

    Attributes:
        shutter: share of the frame's time that the shutter is open.
        blur_px: standard deviation of the lens blur.
        gain, offset: brightness is gain * (value - 128) + 128 + offset.
        noise_sd: standard deviation of the noise of each pixel, of 255.
        line_noise_sd: the same of rows and columns, constant over time.
        jpeg_quality: 1 to 100. None: no compression.
        channel_order: of the colours.
    """

    shutter: float
    blur_px: float
    gain: float
    offset: float
    noise_sd: float
    line_noise_sd: float
    jpeg_quality: int | None
    channel_order: tuple[int, ...]


def visible_camera(rng: Rng) -> Camera:
    """Return a random camera for visible light."""
    return Camera(
        shutter=rng.uniform(0.0, 0.9),
        blur_px=rng.uniform(0.3, 1.0) if rng.random() < 0.5 else 0.0,
        gain=rng.uniform(0.6, 1.15),
        offset=rng.uniform(-35, 25),
        noise_sd=rng.uniform(0.5, 4) if rng.random() < 0.8 else rng.uniform(4, 16),
        line_noise_sd=0.0,
        jpeg_quality=int(rng.integers(25, 98)) if rng.random() < 0.7 else None,
        channel_order=tuple(rng.permutation(3).tolist()) if rng.random() < 0.5 else (0, 1, 2),
    )


def thermal_camera(rng: Rng, *, hard: bool) -> Camera:
    """Return a random thermal camera. hard: with strong noise, as in scenes of low contrast."""
    return Camera(
        shutter=rng.uniform(0.0, 0.4),
        blur_px=rng.uniform(0.4, 0.9),
        gain=1.0,
        offset=0.0,
        noise_sd=rng.uniform(8, 22) if hard else rng.uniform(0.6, 2.0) ** 2,
        line_noise_sd=rng.uniform(0.2, 0.9) if rng.random() < 0.6 else 0.0,
        jpeg_quality=int(rng.integers(40, 98)) if rng.random() < 0.8 else None,
        channel_order=(0,),
    )


def motion_blur(image: Floats | Pixels, motion: tuple[float, float]) -> Floats | Pixels:
    """Return the image blurred by a motion of (x, y) px while the shutter is open."""
    longest = max(abs(motion[0]), abs(motion[1]))
    if longest < 0.75:
        return image
    share = min(1.0, MAX_STREAK_PX / longest)
    kernel = _motion_kernel(round(2 * motion[0] * share), round(2 * motion[1] * share))
    return cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REPLICATE)  # type: ignore[return-value]


@lru_cache(512)
def _motion_kernel(dx: int, dy: int) -> Floats:
    """Return a kernel with a line through its centre, (dx, dy) half pixels long."""
    half = math.ceil(max(abs(dx), abs(dy)) / 4) + 1
    kernel = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
    count = 4 * half + 1
    for share in np.linspace(-0.25, 0.25, count):
        x, y = half + share * dx, half + share * dy
        left, top = math.floor(x), math.floor(y)
        fx, fy = x - left, y - top
        kernel[top : top + 2, left : left + 2] += np.outer([1 - fy, fy], [1 - fx, fx])
    return np.asarray(kernel / kernel.sum(), np.float32)


def lens_blur(image: Pixels, camera: Camera) -> Pixels:
    """Return the image with the lens blur."""
    if camera.blur_px == 0:
        return image
    soft = np.asarray(cv2.GaussianBlur(image, (0, 0), camera.blur_px), np.uint8)
    return soft if soft.ndim == 3 else soft[..., None]  # OpenCV drops the axis of a single channel


def line_noise(rng: Rng, height: int, width: int, sd: float) -> Floats | None:
    """Return the fixed pattern of rows and columns (height, width, 1); None if `sd` is 0."""
    if sd == 0:
        return None
    rows, columns = rng.normal(0, sd, (height, 1, 1)), rng.normal(0, sd, (1, width, 1))
    return np.asarray(rows + columns, np.float32)


def expose(rng: Rng, image: Pixels, camera: Camera, line_noise: Floats | None = None) -> Pixels:
    """Add sensor noise, `line_noise` and compression to (height, width, 1 or 3).

    Returns (height, width, 3).
    """
    value = rng.standard_normal(image.shape, np.float32)
    value *= np.float32(camera.noise_sd)
    value += np.float32(camera.gain) * image
    value += np.float32(128 - 128 * camera.gain + camera.offset + 0.5)
    if line_noise is not None:
        value += line_noise
    np.clip(value, 0, 255, out=value)
    return compress(value.astype(np.uint8), camera)


def compress(image: Pixels, camera: Camera) -> Pixels:
    """Compress (height, width, 1 or 3) as JPEG, and put the channels into the camera's order."""
    colour = image.shape[2] == 3
    if camera.jpeg_quality is not None:
        options = [cv2.IMWRITE_JPEG_QUALITY, camera.jpeg_quality]
        coded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if colour else image, options)[1]
        image = cv2.imdecode(coded, cv2.IMREAD_COLOR_RGB if colour else cv2.IMREAD_GRAYSCALE)  # type: ignore[assignment]
    if not colour:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2RGB), np.uint8)
    return (
        image
        if camera.channel_order == (0, 1, 2)
        else np.ascontiguousarray(image[..., list(camera.channel_order)])
    )
