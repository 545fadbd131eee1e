"""Scenes in which no single frame shows the object, and only its motion gives it away.

The ground is a lattice of independent random values, and so is the object; it moves by whole cells of the
lattice. Whatever lies where, each frame by itself is then a lattice of independent values, with the object
or without. What is done next - a smoothing that gives the texture its grain, colours, light, noise,
compression - knows nothing of the object, so that it cannot bring into a frame what was not there: no single
frame, however it is looked at, tells better than chance where the object is, or whether.

Source: random-dot kinematograms, after Julesz, "Foundations of Cyclopean Perception", 1971.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from canton.errors import require
from canton.track.boxes import Box
from canton.track.synthetic.camera import Lens, Pixels, develop
from canton.track.synthetic.meshes import Floats
from canton.track.synthetic.motion import strides
from canton.track.synthetic.noise import Draw, fractal

if TYPE_CHECKING:
    import cv2
else:
    cv2 = require("cv2", extra="track")


def camouflaged(
    draw: Draw, frames: int, height: int, width: int, *, present: bool
) -> tuple[Pixels, list[Box | None]]:
    """Frames (T, height, width, 3) and the object's boxes, None where it is not."""
    cell = int(draw.choice([1, 1, 2]))
    rows, columns = math.ceil(height / cell), math.ceil(width / cell)
    unit = max(1.0, min(height, width) / 128)
    camera = _camera(draw, frames)
    ground = _lattice(draw, rows + int(np.ptp(camera[:, 1])), columns + int(np.ptp(camera[:, 0])))
    mask = _blob(draw, draw.uniform(9, 24) * unit / cell)
    coat = _lattice(draw, *mask.shape)
    way = strides(draw, frames, speed=draw.uniform(1.0, 3.0) * (1 if cell == 1 else 0.6))
    way = _within(draw, way, columns - mask.shape[1], rows - mask.shape[0])
    corner = camera - camera.min(0)
    finish = _Finish(draw, height, width)
    pixels, boxes = [], []
    for t in range(frames):
        x, y = corner[t]
        values = ground[y : y + rows, x : x + columns].copy()
        if present:
            values[way[t, 1] :, way[t, 0] :][: mask.shape[0], : mask.shape[1]][mask] = coat[mask]
        if cell > 1:
            values = values.repeat(cell, 0).repeat(cell, 1)[:height, :width]
        pixels.append(finish(draw, values))
        box = Box(*(float(cell * v) for v in (*way[t], mask.shape[1], mask.shape[0])))
        boxes.append(_cut(box, width, height) if present else None)
    return np.stack(pixels), boxes


def _lattice(draw: Draw, rows: int, columns: int) -> Floats:
    return draw.standard_normal((rows, columns), np.float32)


def _camera(draw: Draw, frames: int) -> NDArray[np.int64]:
    """Whole cells: at rest, or on a slow way of its own."""
    if draw.random() < 0.6:
        return np.zeros((frames, 2), np.int64)
    return np.asarray(np.round(np.arange(frames)[:, None] * draw.uniform(-1, 1, 2)), np.int64)


def _within(draw: Draw, way: NDArray[np.int64], width: int, height: int) -> NDArray[np.int64]:
    """The way with its corner kept in 0 to width and height, thrown back at the edges."""
    placed: NDArray[np.int64] = way.copy()
    for axis, room in enumerate((width, height)):
        span = placed[:, axis] + int(draw.integers(room + 1)) - int(placed[:, axis].min())
        placed[:, axis] = room - np.abs(span % (2 * room) - room) if room else 0
    return placed


def _blob(draw: Draw, longest: float) -> NDArray[np.bool_]:
    """A shape without holes, its longer side about `longest` cells."""
    count = 48
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    radius = np.ones(count)
    for wave in range(2, 6):
        radius += draw.normal(0, 0.28 / wave) * np.cos(wave * angle + draw.uniform(0, 2 * np.pi))
    flat, turn = draw.uniform(0.55, 1.0), draw.uniform(0, np.pi)
    x, y = radius * np.cos(angle), flat * radius * np.sin(angle)
    points = np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], 1)
    points = (points - points.min(0)) * (longest - 1) / np.ptp(points, axis=0).max()
    size = np.ceil(points.max(0)).astype(int) + 1
    mask = np.zeros((size[1], size[0]), np.uint8)
    cv2.fillPoly(mask, [np.round(points).astype(np.int32)], 1)
    mask = mask[mask.any(1)][:, mask.any(0)]
    return mask.astype(bool)


class _Finish:
    """What is done to every frame alike, whether or not there is an object in it."""

    def __init__(self, draw: Draw, height: int, width: int) -> None:
        self._kernel = _grain(draw)
        dark, bright = draw.uniform(20, 120, 3), draw.uniform(120, 235, 3)
        if draw.random() < 0.3:
            dark[:], bright[:] = dark.mean(), bright.mean()
        self._middle = np.asarray((dark + bright) / 2, np.float32)
        self._reach = np.asarray((bright - dark) / 2, np.float32)
        self._sharp = draw.uniform(0.5, 2.0)
        light = 1 + np.float32(draw.uniform(0, 0.2)) * fractal(draw, width, height, cells=2, octaves=2)
        self._light = light[..., None]
        self._lens = Lens(
            shutter=0.0,
            soft_px=0.0,
            gain=1.0,
            lift=0.0,
            noise_sd=draw.uniform(0, 6),
            lines_sd=0.0,
            quality=int(draw.integers(60, 98)) if draw.random() < 0.5 else None,
            order=(0, 1, 2),
        )

    def __call__(self, draw: Draw, values: Floats) -> Pixels:
        if self._kernel is not None:
            values = np.asarray(cv2.filter2D(values, -1, self._kernel, borderType=cv2.BORDER_REFLECT_101))
        tone = np.tanh(np.float32(self._sharp) * values)[..., None]
        picture = (self._middle + self._reach * tone) * self._light
        return develop(draw, np.asarray(picture.clip(0, 255), np.uint8), self._lens)


def _grain(draw: Draw) -> Floats | None:
    """A smoothing of the lattice that keeps its variance: none, round, or along a direction, as grass."""
    sort = draw.random()
    if sort < 0.3:
        return None
    wide, long = draw.uniform(0.4, 0.9), 1.0
    if sort > 0.65:
        long = draw.uniform(1.5, 3.0)
    turn = draw.uniform(0, np.pi)
    y, x = np.mgrid[-4:5, -4:5].astype(np.float32)
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    kernel = np.exp(-0.5 * ((along / (wide * long)) ** 2 + (across / wide) ** 2))
    return np.asarray(kernel / np.sqrt((kernel**2).sum()), np.float32)


def _cut(box: Box, width: int, height: int) -> Box:
    return Box(box.x, box.y, min(box.width, width - box.x), min(box.height, height - box.y))
