"""Moving targets: a shape on a trajectory, and its box in each frame."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from canton.track.boxes import Box
from canton.track.synthetic.camera import MAX_STREAK_PX, Pixels, motion_blur
from canton.track.synthetic.meshes import Floats
from canton.track.synthetic.motion import drift, place_inside, random_walk, velocities
from canton.track.synthetic.noise import Rng
from canton.track.synthetic.rasterise import Sprite, render_sprite, solid_box, warp_sprite
from canton.track.synthetic.targets import CLASSES, TargetShape

NUM_SHAPES = 96
"""Shapes per class. Every scene renders one from a random side in random colours."""


class MovingTarget(NamedTuple):
    """An object that moves through a scene.

    Attributes:
        class_name: such as "drone".
        sprite: its rendered shape.
        positions: (T, 2) x, y of the centre in px.
        velocity: (T, 2) px per frame.
        scales: (T,) relative to the sprite.
        rolls: (T,) in rad.
    """

    class_name: str
    sprite: Sprite
    positions: Floats
    velocity: Floats
    scales: Floats
    rolls: Floats

    def draw_on(self, image: Pixels, t: int, shutter: float) -> Box | None:
        """Draw the object on frame `t`, an image (height, width, 1 or 3), in place.

        Args:
            image: the frame.
            t: number of the frame.
            shutter: share of the frame's time that the shutter is open.

        Returns:
            The visible part of its box; None if its centre is outside.
        """
        centre = (float(self.positions[t, 0]), float(self.positions[t, 1]))
        patch, left, top = warp_sprite(self.sprite.at(t), centre, float(self.scales[t]), float(self.rolls[t]))
        motion = (float(self.velocity[t, 0]) * shutter, float(self.velocity[t, 1]) * shutter)
        padding = min(math.ceil(max(abs(motion[0]), abs(motion[1])) / 2), MAX_STREAK_PX) + 1
        patch = np.pad(patch, ((padding, padding), (padding, padding), (0, 0)))
        patch = np.asarray(motion_blur(patch, motion), np.float32)
        left, top = left - padding, top - padding
        height, width, channels = image.shape
        x0, y0 = max(left, 0), max(top, 0)
        x1, y1 = min(left + patch.shape[1], width), min(top + patch.shape[0], height)
        if x0 >= x1 or y0 >= y1:
            return None
        cut = patch[y0 - top : y1 - top, x0 - left : x1 - left]
        under = image[y0:y1, x0:x1]
        under[:] = under * (1 - cut[..., 3:]) + cut[..., :channels] * np.float32(255) + np.float32(0.5)
        return _visible_box(solid_box(patch, left, top), width, height)


def _visible_box(box: Box, width: int, height: int) -> Box | None:
    x, y = box.centre
    if not (0 <= x < width and 0 <= y < height):
        return None
    left, top = max(box.x, 0.0), max(box.y, 0.0)
    return Box(left, top, min(box.x + box.width, width) - left, min(box.y + box.height, height) - top)


@lru_cache(4 * NUM_SHAPES)
def _cached_shape(index: int, k: int) -> TargetShape:
    rng = np.random.default_rng([k, index, 3])
    makers = CLASSES[index][1]
    return makers[k % len(makers)](rng)


def random_shape(rng: Rng, class_name: str) -> TargetShape:
    """Return a random shape of a class."""
    index = [name for name, _ in CLASSES].index(class_name)
    return _cached_shape(index, int(rng.integers(NUM_SHAPES)))


def random_trajectory(
    rng: Rng, frames: int, width: int, height: int, *, size_px: float, speed: float, shake: float
) -> Floats:
    """Return a random trajectory (frames, 2) through the image.

    Args:
        size_px: of the object.
        speed: in px per frame.
        shake: standard deviation of the position's noise, in px.
    """
    positions = random_walk(rng, frames, speed=speed, wander=rng.uniform(0.05, 0.6), shake=shake)
    return place_inside(rng, positions, width, height, margin=0.7 * size_px + 1)


def make_moving_target(
    rng: Rng,
    class_name: str,
    positions: Floats,
    *,
    size_px: float,
    colours: Floats,
    relief: float,
    bloom_px: float = 0.0,
) -> MovingTarget:
    """Return an object of a class on a trajectory, rendered from a random side.

    All classes but the drone point in their direction of flight.

    Args:
        positions: (T, 2) x, y in px.
        size_px: longer side.
        colours: (PARTS, 4), see `canton.track.synthetic.colours`.
        relief: strength of the shading, 0 to 1.
        bloom_px: growth of the outline by glow, in px.
    """
    frames, velocity = len(positions), velocities(positions)
    shape = random_shape(rng, class_name)
    heading = 0.0 if float(velocity[:, 0].sum()) >= 0 else math.pi
    yaw = rng.uniform(0, 2 * math.pi) if class_name == "drone" else heading + rng.normal(0, 0.7)
    low = 0.35 if bloom_px else 0.8  # thermal cameras look at the horizon
    pitch = rng.uniform(-0.3, low) if rng.random() < 0.85 else rng.uniform(low, 1.57)
    sprite = render_sprite(
        shape, rng, size_px=size_px, colours=colours, yaw=yaw, pitch=pitch, relief=relief, bloom_px=bloom_px
    )
    log_scale = drift(rng, frames, start=0, step=0.01) + rng.normal(0, 0.015) * np.arange(frames)
    scales = np.exp(np.clip(log_scale, -0.4, 0.4))
    return MovingTarget(
        class_name, sprite, positions, velocity, scales, drift(rng, frames, start=0.15, step=0.0225)
    )
