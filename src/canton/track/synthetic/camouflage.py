"""Scenes in which only motion reveals the object; no single frame does.

The background is a lattice of independent random values, and so is the object, which moves by whole cells.
Every frame is therefore a lattice of independent values, with or without the object. Smoothing, colours,
lighting, noise and compression are applied to all frames alike, so they cannot add information about it.

Source: random-dot kinematograms, after Julesz, "Foundations of Cyclopean Perception", 1971.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from canton.errors import require
from canton.track.boxes import Box
from canton.track.synthetic.camera import Camera, Pixels, expose
from canton.track.synthetic.meshes import Floats
from canton.track.synthetic.motion import integer_walk
from canton.track.synthetic.noise import Rng, fractal_noise

if TYPE_CHECKING:
    import cv2
else:
    cv2 = require("cv2", extra="track")


def camouflage_scene(
    rng: Rng, frames: int, height: int, width: int, *, present: bool
) -> tuple[Pixels, list[Box | None]]:
    """Return frames (T, height, width, 3) and the object's boxes, None where it is absent."""
    cell = int(rng.choice([1, 1, 2]))
    rows, columns = math.ceil(height / cell), math.ceil(width / cell)
    unit = max(1.0, min(height, width) / 128)
    camera_path = _camera_path(rng, frames)
    ground = _lattice(rng, rows + int(np.ptp(camera_path[:, 1])), columns + int(np.ptp(camera_path[:, 0])))
    mask = _blob(rng, rng.uniform(9, 24) * unit / cell)
    texture = _lattice(rng, *mask.shape)
    positions = integer_walk(rng, frames, speed=rng.uniform(1.0, 3.0) * (1 if cell == 1 else 0.6))
    positions = _reflect_inside(rng, positions, columns - mask.shape[1], rows - mask.shape[0])
    corner = camera_path - camera_path.min(0)
    render = _Renderer(rng, height, width)
    pixels, boxes = [], []
    for t in range(frames):
        x, y = corner[t]
        values = ground[y : y + rows, x : x + columns].copy()
        if present:
            values[positions[t, 1] :, positions[t, 0] :][: mask.shape[0], : mask.shape[1]][mask] = texture[
                mask
            ]
        if cell > 1:
            values = values.repeat(cell, 0).repeat(cell, 1)[:height, :width]
        pixels.append(render(rng, values))
        box = Box(*(float(cell * v) for v in (*positions[t], mask.shape[1], mask.shape[0])))
        boxes.append(_clipped(box, width, height) if present else None)
    return np.stack(pixels), boxes


def _lattice(rng: Rng, rows: int, columns: int) -> Floats:
    return rng.standard_normal((rows, columns), np.float32)


def _camera_path(rng: Rng, frames: int) -> NDArray[np.int64]:
    """Return the camera's path in whole cells: at rest, or slow."""
    if rng.random() < 0.6:
        return np.zeros((frames, 2), np.int64)
    return np.asarray(np.round(np.arange(frames)[:, None] * rng.uniform(-1, 1, 2)), np.int64)


def _reflect_inside(rng: Rng, positions: NDArray[np.int64], width: int, height: int) -> NDArray[np.int64]:
    """Return the positions of the corner within 0 to width and height, reflected at the edges."""
    placed: NDArray[np.int64] = positions.copy()
    for axis, margin in enumerate((width, height)):
        span = placed[:, axis] + int(rng.integers(margin + 1)) - int(placed[:, axis].min())
        placed[:, axis] = margin - np.abs(span % (2 * margin) - margin) if margin else 0
    return placed


def _blob(rng: Rng, longest: float) -> NDArray[np.bool_]:
    """Return a random shape without holes, its longer side about `longest` cells."""
    count = 48
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    radius = np.ones(count)
    for wave in range(2, 6):
        radius += rng.normal(0, 0.28 / wave) * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
    flat, turn = rng.uniform(0.55, 1.0), rng.uniform(0, np.pi)
    x, y = radius * np.cos(angle), flat * radius * np.sin(angle)
    points = np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], 1)
    points = (points - points.min(0)) * (longest - 1) / np.ptp(points, axis=0).max()
    size = np.ceil(points.max(0)).astype(int) + 1
    mask = np.zeros((size[1], size[0]), np.uint8)
    cv2.fillPoly(mask, [np.round(points).astype(np.int32)], 1)
    mask = mask[mask.any(1)][:, mask.any(0)]
    return mask.astype(bool)


class _Renderer:
    """A renderer that treats frames with and without an object alike."""

    def __init__(self, rng: Rng, height: int, width: int) -> None:
        self._kernel = _grain(rng)
        dark, bright = rng.uniform(20, 120, 3), rng.uniform(120, 235, 3)
        if rng.random() < 0.3:
            dark[:], bright[:] = dark.mean(), bright.mean()
        self._middle = np.asarray((dark + bright) / 2, np.float32)
        self._amplitude = np.asarray((bright - dark) / 2, np.float32)
        self._sharp = rng.uniform(0.5, 2.0)
        light = 1 + np.float32(rng.uniform(0, 0.2)) * fractal_noise(rng, width, height, cells=2, octaves=2)
        self._light = light[..., None]
        self._camera = Camera(
            shutter=0.0,
            blur_px=0.0,
            gain=1.0,
            offset=0.0,
            noise_sd=rng.uniform(0, 6),
            line_noise_sd=0.0,
            jpeg_quality=int(rng.integers(60, 98)) if rng.random() < 0.5 else None,
            channel_order=(0, 1, 2),
        )

    def __call__(self, rng: Rng, values: Floats) -> Pixels:
        if self._kernel is not None:
            values = np.asarray(cv2.filter2D(values, -1, self._kernel, borderType=cv2.BORDER_REFLECT_101))
        tone = np.tanh(np.float32(self._sharp) * values)[..., None]
        image = (self._middle + self._amplitude * tone) * self._light
        return expose(rng, np.asarray(image.clip(0, 255), np.uint8), self._camera)


def _grain(rng: Rng) -> Floats | None:
    """Return a smoothing kernel that keeps the variance: none, round, or elongated like grass."""
    kind = rng.random()
    if kind < 0.3:
        return None
    wide, long = rng.uniform(0.4, 0.9), 1.0
    if kind > 0.65:
        long = rng.uniform(1.5, 3.0)
    turn = rng.uniform(0, np.pi)
    y, x = np.mgrid[-4:5, -4:5].astype(np.float32)
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    kernel = np.exp(-0.5 * ((along / (wide * long)) ** 2 + (across / wide) ** 2))
    return np.asarray(kernel / np.sqrt((kernel**2).sum()), np.float32)


def _clipped(box: Box, width: int, height: int) -> Box:
    return Box(box.x, box.y, min(box.width, width - box.x), min(box.height, height - box.y))
