"""Generated thermal images: a cold sky, dark above a bright horizon, with warm trees and roofs.

Sizes are in px of an image 320 px wide.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from canton.errors import require
from canton.track.synthetic.meshes import Floats
from canton.track.synthetic.noise import Rng, fractal_noise, mask_below, ridge

if TYPE_CHECKING:
    import cv2
else:
    cv2 = require("cv2", extra="track")


def thermal_sky(rng: Rng, width: int, height: int) -> Floats:
    """Return an image (height, width, 1) in [0, 255]."""
    horizon = height * rng.uniform(0.45, 0.95) if rng.random() < 0.8 else height * 1.5
    image = _sky_gradient(rng, width, height, horizon)
    if horizon < height:
        for add in _skyline(rng):
            add(rng, image, horizon)
        _ground(rng, image, horizon)
    return _local_contrast(rng, image)


def _sky_gradient(rng: Rng, width: int, height: int, horizon: float) -> Floats:
    rows = np.arange(height, dtype=np.float32)
    high = rng.uniform(45, 115)
    air = high + rng.uniform(-25, 15) * rows / height
    air -= rng.uniform(0.2, 1.0) * high * np.exp((rows - horizon) / np.float32(rng.uniform(15, 60)))
    image = np.repeat(np.clip(air, 5, 255)[:, None], width, 1).astype(np.float32)
    if rng.random() < 0.5:
        field = fractal_noise(
            rng,
            width,
            height,
            cells=rng.uniform(2, 5),
            octaves=6,
            persistence=0.6,
            stretch=rng.uniform(1.5, 6),
        )
        cover = np.clip(field - np.float32(rng.uniform(0.0, 1.4)), 0, 2)
        image += cover * np.float32(rng.uniform(8, 75))
    return image


def _skyline(rng: Rng) -> list[Callable[[Rng, Floats, float], None]]:
    near = [_bushes, _pines, _roofs, _poles]
    return [_pines if rng.random() < 0.5 else _bushes, *(add for add in near if rng.random() < 0.3)]


def _texture(
    rng: Rng,
    image: Floats,
    low: float,
    high: float,
    stretch: float,
    depth: tuple[float, float] = (12, 40),
) -> Floats:
    height, width = image.shape
    grain = fractal_noise(rng, width, height, cells=height / 7, octaves=3, persistence=0.9, stretch=stretch)
    coarse = fractal_noise(rng, width, height, cells=5, octaves=2)
    middle = rng.uniform(low, high)
    field = middle + np.float32(rng.uniform(*depth)) * grain + np.float32(12) * coarse
    return np.asarray(field, np.float32)


def _composite(image: Floats, line: Floats, brightness: Floats, soft: float = 1.5) -> None:
    share = mask_below(line, image.shape[0], soft)[..., 0]
    image += share * (brightness - image)


def _pines(rng: Rng, image: Floats, horizon: float) -> None:
    width = image.shape[1]
    tops = np.abs(ridge(rng, width, cells=width / rng.uniform(5, 14), octaves=2, persistence=0.8))
    line = horizon - rng.uniform(4, 28) * (0.5 + 0.5 * tops) - 5 * ridge(rng, width, cells=3, octaves=2)
    _composite(image, np.asarray(line, np.float32), _texture(rng, image, 150, 230, rng.uniform(0.2, 0.5)))


def _bushes(rng: Rng, image: Floats, horizon: float) -> None:
    width = image.shape[1]
    line = horizon - rng.uniform(2, 14) * (
        1 + 0.5 * ridge(rng, width, cells=width / 60, octaves=5, persistence=0.6)
    )
    _composite(image, line, _texture(rng, image, 160, 240, 1.0))
    if rng.random() < 0.35:  # a near tree, higher than the others
        rows, columns = np.mgrid[: image.shape[0], :width].astype(np.float32)
        x, radius = rng.uniform(0, width), rng.uniform(25, 90)
        distance = np.hypot(columns - x, (rows - horizon) * np.float32(rng.uniform(0.6, 1.0))) / np.float32(
            radius
        )
        crown = distance + np.float32(0.13) * fractal_noise(
            rng, width, image.shape[0], cells=12, octaves=4, persistence=0.8
        )
        share = np.clip((1 - crown) * 9, 0, 1)
        image += share * (_texture(rng, image, 120, 200, 1.0) - image)


def _roofs(rng: Rng, image: Floats, horizon: float) -> None:
    for _ in range(int(rng.integers(1, 5))):
        x, wide, high = rng.uniform(-40, image.shape[1]), rng.uniform(25, 170), rng.uniform(8, 60)
        rise = wide * rng.uniform(-0.2, 0.2)
        wall, top = rng.uniform(60, 170), rng.uniform(150, 255)
        corners = np.array(
            [
                [x, horizon + 30],
                [x, horizon - high],
                [x + wide, horizon - high - rise],
                [x + wide, horizon + 30],
            ]
        )
        cv2.fillConvexPoly(image, corners.astype(np.int32), wall)
        edge = corners[1:3].astype(int).tolist()
        cv2.line(image, tuple(edge[0]), tuple(edge[1]), top, int(rng.integers(1, 7)))
        for k in range(int(rng.integers(0, 8))):
            left, up = int(x + 8 + k * 17), int(horizon - high * 0.6)
            if left + 9 < x + wide:
                cv2.rectangle(image, (left, up), (left + 8, up + 6), wall * 0.5, -1)


def _poles(rng: Rng, image: Floats, horizon: float) -> None:
    for _ in range(int(rng.integers(1, 7))):
        x, high = rng.uniform(0, image.shape[1]), rng.uniform(15, 110)
        brightness, top = rng.uniform(120, 255), int(horizon - high)
        cv2.line(image, (int(x), int(horizon + 8)), (int(x), top), brightness, int(rng.integers(1, 4)))
        if rng.random() < 0.5:
            cv2.rectangle(image, (int(x) - 4, top - 2), (int(x) + 4, top + 1), brightness, -1)


def _ground(rng: Rng, image: Floats, horizon: float) -> None:
    line = horizon + rng.uniform(4, 30) + 3 * ridge(rng, image.shape[1], cells=4, octaves=3)
    _composite(image, line, _texture(rng, image, 70, 190, rng.uniform(3, 8), depth=(2, 14)), 3)


def _local_contrast(rng: Rng, image: Floats) -> Floats:
    """Enhance local contrast as cameras do: bright objects get a dark rim."""
    around = cv2.blur(cv2.blur(image, (41, 41)), (41, 41))
    image = image + np.float32(rng.uniform(0.1, 0.7)) * (image - around)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 0.9)), np.float32)[..., None].clip(
        0, 255
    )


OVERLAYS = ("FLIR", "REC", "I:0 V:0", "WHITE HOT", "W 272", "13:42:07", "+", "[]")


def text_overlay(rng: Rng, width: int, height: int) -> Floats | None:
    """Return the camera's text overlay (height, width, 1) in [0, 1]; mostly None."""
    if rng.random() < 0.9:
        return None
    words = np.zeros((height, width), np.uint8)
    for _ in range(int(rng.integers(1, 4))):
        x, y = int(rng.uniform(2, max(3, width - 50))), int(rng.choice([12, height - 6]))
        text = OVERLAYS[rng.integers(len(OVERLAYS))]
        cv2.putText(
            words, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, rng.uniform(0.25, 0.45), 255, 1, cv2.LINE_AA
        )
    return np.asarray(words[..., None] / 255, np.float32)
