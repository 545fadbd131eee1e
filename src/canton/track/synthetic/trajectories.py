"""One thing that flies through one scene: its shape, its way, and where it is in each picture."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from canton.track.boxes import Box
from canton.track.synthetic.camera import LONGEST, Pixels, smear
from canton.track.synthetic.meshes import Floats
from canton.track.synthetic.motion import drift, speeds, walk, within
from canton.track.synthetic.noise import Draw
from canton.track.synthetic.rasterise import Sprite, box_of, cut_out, place
from canton.track.synthetic.targets import SORTS, Flyer

KEPT = 96
"""How many shapes of each sort there are; a scene sees one from a side and in colours of its own."""


class Flight(NamedTuple):
    """way: of its middle, px (T, 2); going: px a frame (T, 2); sizes: share of the drawn size (T,); rolls:
    radians (T,).
    """

    kind: str
    sprite: Sprite
    way: Floats
    going: Floats
    sizes: Floats
    rolls: Floats

    def draw_on(self, picture: Pixels, t: int, shutter: float) -> Box | None:
        """Draw it on a picture (height, width, 1 or 3) of frame `t`; the box of what is seen, cut at the
        edges, or None where its middle is outside.
        """
        centre = (float(self.way[t, 0]), float(self.way[t, 1]))
        patch, left, top = place(self.sprite.at(t), centre, float(self.sizes[t]), float(self.rolls[t]))
        motion = (float(self.going[t, 0]) * shutter, float(self.going[t, 1]) * shutter)
        spare = min(math.ceil(max(abs(motion[0]), abs(motion[1])) / 2), LONGEST) + 1
        patch = np.pad(patch, ((spare, spare), (spare, spare), (0, 0)))
        patch = np.asarray(smear(patch, motion), np.float32)
        left, top = left - spare, top - spare
        height, width, channels = picture.shape
        x0, y0 = max(left, 0), max(top, 0)
        x1, y1 = min(left + patch.shape[1], width), min(top + patch.shape[0], height)
        if x0 >= x1 or y0 >= y1:
            return None
        cut = patch[y0 - top : y1 - top, x0 - left : x1 - left]
        under = picture[y0:y1, x0:x1]
        under[:] = under * (1 - cut[..., 3:]) + cut[..., :channels] * np.float32(255) + np.float32(0.5)
        return _seen(box_of(patch, left, top), width, height)


def _seen(box: Box, width: int, height: int) -> Box | None:
    x, y = box.centre
    if not (0 <= x < width and 0 <= y < height):
        return None
    left, top = max(box.x, 0.0), max(box.y, 0.0)
    return Box(left, top, min(box.x + box.width, width) - left, min(box.y + box.height, height) - top)


@lru_cache(4 * KEPT)
def _shape(sort: int, k: int) -> Flyer:
    draw = np.random.default_rng([k, sort, 3])
    makers = SORTS[sort][1]
    return makers[k % len(makers)](draw)


def shape(draw: Draw, kind: str) -> Flyer:
    """One of the shapes of a kind."""
    sort = [name for name, _ in SORTS].index(kind)
    return _shape(sort, int(draw.integers(KEPT)))


def plan(
    draw: Draw, frames: int, width: int, height: int, *, size_px: float, speed: float, shake: float
) -> Floats:
    """A way through the picture for a thing of `size_px`, `speed` px a frame fast."""
    way = walk(draw, frames, speed=speed, wander=draw.uniform(0.05, 0.6), shake=shake)
    return within(draw, way, width, height, margin=0.7 * size_px + 1)


def launch(
    draw: Draw,
    kind: str,
    way: Floats,
    *,
    size_px: float,
    colours: Floats,
    relief: float,
    bloom_px: float = 0.0,
) -> Flight:
    """A thing of a kind on its way, seen from a side by chance; what has a nose flies where it points.

    bloom_px: what its light spreads by on the sensor, as heat does.
    """
    frames, going = len(way), speeds(way)
    flyer = shape(draw, kind)
    ahead = 0.0 if float(going[:, 0].sum()) >= 0 else math.pi
    yaw = draw.uniform(0, 2 * math.pi) if kind == "drone" else ahead + draw.normal(0, 0.7)
    low = 0.35 if bloom_px else 0.8  # thermal cameras look at the horizon
    pitch = draw.uniform(-0.3, low) if draw.random() < 0.85 else draw.uniform(low, 1.57)
    sprite = cut_out(
        flyer, draw, size_px=size_px, colours=colours, yaw=yaw, pitch=pitch, relief=relief, bloom_px=bloom_px
    )
    grown = drift(draw, frames, start=0, step=0.01) + draw.normal(0, 0.015) * np.arange(frames)
    sizes = np.exp(np.clip(grown, -0.4, 0.4))
    return Flight(kind, sprite, way, going, sizes, drift(draw, frames, start=0.15, step=0.0225))
