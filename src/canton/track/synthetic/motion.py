"""Random motion of the camera and of the objects."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from canton.track.synthetic.meshes import Floats
from canton.track.synthetic.noise import Rng

CROSSING_SHARE = 0.2
"""Share of trajectories that may enter or leave the image. The others stay inside if they fit."""


def random_walk(
    rng: Rng, frames: int, *, speed: float, wander: float = 0.25, shake: float = 0.0, climb: float = 0.6
) -> Floats:
    """Return a random walk (frames, 2) in x and y that starts at 0; acceleration, velocity and position vary.

    Args:
        speed: initial speed in px per frame, in a random direction.
        wander: change of the acceleration per frame, as a share of `speed`.
        shake: standard deviation of the position's noise, in px, as of a hand or the wind.
        climb: share of the speed that is vertical; 1: all directions alike.
    """
    heading = rng.uniform(0, 2 * np.pi)
    aspect = np.array([1.0, climb])
    acceleration_noise = rng.standard_normal((frames, 2)) * aspect
    noise = rng.standard_normal((frames, 2)) * shake
    velocity = speed * np.array([np.cos(heading), np.sin(heading)]) * aspect
    acceleration, position = np.zeros(2), np.zeros(2)
    positions = np.empty((frames, 2), np.float32)
    for t in range(frames):
        positions[t] = position + noise[t]
        acceleration = 0.6 * acceleration + 0.4 * wander * speed * acceleration_noise[t]
        velocity = 0.98 * velocity + acceleration
        position = position + velocity
    return np.asarray(positions - positions[0], np.float32)


def drift(rng: Rng, frames: int, *, start: float, step: float) -> Floats:
    """Return a random walk (frames,) around 0, for example of a tilt.

    Args:
        start: standard deviation of the first value.
        step: standard deviation of the change from frame to frame.
    """
    steps = rng.standard_normal(frames) * step
    steps[0] = rng.normal(0, start)
    return np.asarray(np.cumsum(steps), np.float32)


def place_inside(rng: Rng, positions: Floats, width: int, height: int, margin: float) -> Floats:
    """Return a trajectory moved into the image.

    A share `CROSSING_SHARE` may cross the edge. The others are inside in all frames if they fit. At least one
    frame is inside.

    Args:
        margin: distance from the edge, in px.
    """
    inside: Floats = positions.copy()
    visible = int(rng.integers(len(positions)))
    crosses = rng.random() < CROSSING_SHARE
    for axis, side in enumerate((width, height)):
        edge = 1.0 if crosses else min(margin, side / 3)
        low, high = edge - float(positions[:, axis].min()), side - edge - float(positions[:, axis].max())
        if crosses or low > high:
            low, high = (
                edge - float(positions[visible, axis]),
                side - edge - float(positions[visible, axis]),
            )
        inside[:, axis] += np.float32(rng.uniform(low, high))
    return inside


def velocities(positions: Floats) -> Floats:
    """Return the velocity (frames, 2) in px per frame: to the next frame, or from the one before the last."""
    if len(positions) == 1:
        return np.zeros_like(positions)
    steps = np.diff(positions, axis=0)
    return np.asarray(np.concatenate([steps, steps[-1:]]), np.float32)


def integer_walk(rng: Rng, frames: int, *, speed: float) -> NDArray[np.int64]:
    """Return a random walk (frames, 2) in whole px that moves in every frame."""
    positions = random_walk(rng, frames, speed=speed, wander=0.2, climb=1.0)
    steps = np.diff(np.round(positions).astype(np.int64), axis=0)
    still = ~steps.any(1)
    steps[still] = _UNIT_STEPS[rng.integers(len(_UNIT_STEPS), size=int(still.sum()))]
    return np.concatenate([np.zeros((1, 2), np.int64), np.cumsum(steps, 0)])


_UNIT_STEPS = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])
