"""Ways through the picture, by chance: the camera's and those of what flies, each its own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from canton.track.synthetic.meshes import Floats
from canton.track.synthetic.noise import Draw

AWAY = 0.2
"""Of the ways, the share that may leave the picture or come into it; the others stay inside if they can."""


def walk(
    draw: Draw, frames: int, *, speed: float, wander: float = 0.25, shake: float = 0.0, climb: float = 0.6
) -> Floats:
    """A random walk of acceleration, speed and position at once, (frames, 2), columns and rows, from 0.

    Args:
        speed: px a frame that it begins with, whatever the heading.
        wander: what the acceleration changes by in a frame, as a share of `speed`.
        shake: px that the position changes by, over and above its speed, as a hand or the wind shakes it.
        climb: how much of its speed goes upward or down; 1 for every heading alike.
    """
    heading = draw.uniform(0, 2 * np.pi)
    aspect = np.array([1.0, climb])
    chance = draw.standard_normal((frames, 2)) * aspect
    noise = draw.standard_normal((frames, 2)) * shake
    going = speed * np.array([np.cos(heading), np.sin(heading)]) * aspect
    pull, place = np.zeros(2), np.zeros(2)
    way = np.empty((frames, 2), np.float32)
    for t in range(frames):
        way[t] = place + noise[t]
        pull = 0.6 * pull + 0.4 * wander * speed * chance[t]
        going = 0.98 * going + pull
        place = place + going
    return np.asarray(way - way[0], np.float32)


def drift(draw: Draw, frames: int, *, start: float, step: float) -> Floats:
    """A slow change about 0, such as of a tilt: (frames,); standard deviations of where it begins and of what
    it changes by from a frame to the next.
    """
    steps = draw.standard_normal(frames) * step
    steps[0] = draw.normal(0, start)
    return np.asarray(np.cumsum(steps), np.float32)


def within(draw: Draw, way: Floats, width: int, height: int, margin: float) -> Floats:
    """The way, moved so that it lies in the picture: all of it, where it fits and is not one of the few that
    come and go; else at least one frame of it. margin: px from the edge.
    """
    inside: Floats = way.copy()
    seen = int(draw.integers(len(way)))
    goes = draw.random() < AWAY
    for axis, side in enumerate((width, height)):
        edge = 1.0 if goes else min(margin, side / 3)
        low, high = edge - float(way[:, axis].min()), side - edge - float(way[:, axis].max())
        if goes or low > high:
            low, high = (edge - float(way[seen, axis]), side - edge - float(way[seen, axis]))
        inside[:, axis] += np.float32(draw.uniform(low, high))
    return inside


def speeds(way: Floats) -> Floats:
    """px a frame at each frame, (frames, 2): to the next, or from the last before."""
    if len(way) == 1:
        return np.zeros_like(way)
    steps = np.diff(way, axis=0)
    return np.asarray(np.concatenate([steps, steps[-1:]]), np.float32)


def strides(draw: Draw, frames: int, *, speed: float) -> NDArray[np.int64]:
    """A way in whole px, (frames, 2), that never stands still: its heading changes now and then."""
    way = walk(draw, frames, speed=speed, wander=0.2, climb=1.0)
    steps = np.diff(np.round(way).astype(np.int64), axis=0)
    still = ~steps.any(1)
    steps[still] = _UNIT[draw.integers(len(_UNIT), size=int(still.sum()))]
    return np.concatenate([np.zeros((1, 2), np.int64), np.cumsum(steps, 0)])


_UNIT = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])
