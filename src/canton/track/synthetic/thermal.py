"""What an uncooled thermal camera sees: a cold sky, dark above a bright horizon, white trees and roofs.

Sizes are in px of a picture 320 px wide, whatever the size of the scene.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from canton.errors import require
from canton.track.synthetic.meshes import Floats
from canton.track.synthetic.noise import Draw, below, fractal, ridge

if TYPE_CHECKING:
    import cv2
else:
    cv2 = require("cv2", extra="track")


def cold_sky(draw: Draw, width: int, height: int) -> Floats:
    """A picture (height, width, 1) in [0, 255]."""
    horizon = height * draw.uniform(0.45, 0.95) if draw.random() < 0.8 else height * 1.5
    picture = _air(draw, width, height, horizon)
    if horizon < height:
        for build in _skyline(draw):
            build(draw, picture, horizon)
        _ground(draw, picture, horizon)
    return _evened(draw, picture)


def _air(draw: Draw, width: int, height: int, horizon: float) -> Floats:
    rows = np.arange(height, dtype=np.float32)
    high = draw.uniform(45, 115)
    air = high + draw.uniform(-25, 15) * rows / height
    air -= draw.uniform(0.2, 1.0) * high * np.exp((rows - horizon) / np.float32(draw.uniform(15, 60)))
    picture = np.repeat(np.clip(air, 5, 255)[:, None], width, 1).astype(np.float32)
    if draw.random() < 0.5:
        field = fractal(
            draw, width, height, cells=draw.uniform(2, 5), octaves=6, fade=0.6, stretch=draw.uniform(1.5, 6)
        )
        cover = np.clip(field - np.float32(draw.uniform(0.0, 1.4)), 0, 2)
        picture += cover * np.float32(draw.uniform(8, 75))
    return picture


def _skyline(draw: Draw) -> list[Callable[[Draw, Floats, float], None]]:
    near = [_bushes, _pines, _roofs, _poles]
    return [_pines if draw.random() < 0.5 else _bushes, *(build for build in near if draw.random() < 0.3)]


def _heat(
    draw: Draw,
    picture: Floats,
    low: float,
    high: float,
    stretch: float,
    depth: tuple[float, float] = (12, 40),
) -> Floats:
    height, width = picture.shape
    grain = fractal(draw, width, height, cells=height / 7, octaves=3, fade=0.9, stretch=stretch)
    coarse = fractal(draw, width, height, cells=5, octaves=2)
    middle = draw.uniform(low, high)
    field = middle + np.float32(draw.uniform(*depth)) * grain + np.float32(12) * coarse
    return np.asarray(field, np.float32)


def _cover(picture: Floats, line: Floats, heat: Floats, soft: float = 1.5) -> None:
    share = below(line, picture.shape[0], soft)[..., 0]
    picture += share * (heat - picture)


def _pines(draw: Draw, picture: Floats, horizon: float) -> None:
    width = picture.shape[1]
    tops = np.abs(ridge(draw, width, cells=width / draw.uniform(5, 14), octaves=2, fade=0.8))
    line = horizon - draw.uniform(4, 28) * (0.5 + 0.5 * tops) - 5 * ridge(draw, width, cells=3, octaves=2)
    _cover(picture, np.asarray(line, np.float32), _heat(draw, picture, 150, 230, draw.uniform(0.2, 0.5)))


def _bushes(draw: Draw, picture: Floats, horizon: float) -> None:
    width = picture.shape[1]
    line = horizon - draw.uniform(2, 14) * (
        1 + 0.5 * ridge(draw, width, cells=width / 60, octaves=5, fade=0.6)
    )
    _cover(picture, line, _heat(draw, picture, 160, 240, 1.0))
    if draw.random() < 0.35:  # a tree close by, higher than the rest
        rows, columns = np.mgrid[: picture.shape[0], :width].astype(np.float32)
        x, radius = draw.uniform(0, width), draw.uniform(25, 90)
        apart = np.hypot(columns - x, (rows - horizon) * np.float32(draw.uniform(0.6, 1.0))) / np.float32(
            radius
        )
        crown = apart + np.float32(0.13) * fractal(
            draw, width, picture.shape[0], cells=12, octaves=4, fade=0.8
        )
        share = np.clip((1 - crown) * 9, 0, 1)
        picture += share * (_heat(draw, picture, 120, 200, 1.0) - picture)


def _roofs(draw: Draw, picture: Floats, horizon: float) -> None:
    for _ in range(int(draw.integers(1, 5))):
        x, wide, high = draw.uniform(-40, picture.shape[1]), draw.uniform(25, 170), draw.uniform(8, 60)
        rise = wide * draw.uniform(-0.2, 0.2)
        wall, top = draw.uniform(60, 170), draw.uniform(150, 255)
        corners = np.array(
            [
                [x, horizon + 30],
                [x, horizon - high],
                [x + wide, horizon - high - rise],
                [x + wide, horizon + 30],
            ]
        )
        cv2.fillConvexPoly(picture, corners.astype(np.int32), wall)
        edge = corners[1:3].astype(int).tolist()
        cv2.line(picture, tuple(edge[0]), tuple(edge[1]), top, int(draw.integers(1, 7)))
        for k in range(int(draw.integers(0, 8))):
            left, up = int(x + 8 + k * 17), int(horizon - high * 0.6)
            if left + 9 < x + wide:
                cv2.rectangle(picture, (left, up), (left + 8, up + 6), wall * 0.5, -1)


def _poles(draw: Draw, picture: Floats, horizon: float) -> None:
    for _ in range(int(draw.integers(1, 7))):
        x, high = draw.uniform(0, picture.shape[1]), draw.uniform(15, 110)
        heat, top = draw.uniform(120, 255), int(horizon - high)
        cv2.line(picture, (int(x), int(horizon + 8)), (int(x), top), heat, int(draw.integers(1, 4)))
        if draw.random() < 0.5:
            cv2.rectangle(picture, (int(x) - 4, top - 2), (int(x) + 4, top + 1), heat, -1)


def _ground(draw: Draw, picture: Floats, horizon: float) -> None:
    line = horizon + draw.uniform(4, 30) + 3 * ridge(draw, picture.shape[1], cells=4, octaves=3)
    _cover(picture, line, _heat(draw, picture, 70, 190, draw.uniform(3, 8), depth=(2, 14)), 3)


def _evened(draw: Draw, picture: Floats) -> Floats:
    """Local contrast as cameras set it: what is far brighter than its surroundings leaves a dark rim."""
    around = cv2.blur(cv2.blur(picture, (41, 41)), (41, 41))
    picture = picture + np.float32(draw.uniform(0.1, 0.7)) * (picture - around)
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), draw.uniform(0.4, 0.9)), np.float32)[..., None].clip(
        0, 255
    )


OVERLAYS = ("FLIR", "REC", "I:0 V:0", "WHITE HOT", "W 272", "13:42:07", "+", "[]")


def overlay(draw: Draw, width: int, height: int) -> Floats | None:
    """Writing that the camera puts over its picture, (height, width, 1) in [0, 1]; most put none."""
    if draw.random() < 0.9:
        return None
    words = np.zeros((height, width), np.uint8)
    for _ in range(int(draw.integers(1, 4))):
        x, y = int(draw.uniform(2, max(3, width - 50))), int(draw.choice([12, height - 6]))
        text = OVERLAYS[draw.integers(len(OVERLAYS))]
        cv2.putText(
            words, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, draw.uniform(0.25, 0.45), 255, 1, cv2.LINE_AA
        )
    return np.asarray(words[..., None] / 255, np.float32)
