"""Skies, and the land under them, made up."""

from __future__ import annotations

import numpy as np

from canton.track.synthetic.meshes import Floats
from canton.track.synthetic.noise import Draw, below, fractal, ramp, ridge

BLUES = ((58, 110, 180), (90, 140, 200), (120, 170, 220), (40, 80, 150), (150, 175, 200))
HAZES = ((170, 200, 225), (200, 215, 230), (225, 225, 220), (150, 180, 205))
DUSKS = ((60, 60, 100), (120, 80, 110), (90, 90, 120))
GLOWS = ((240, 170, 110), (235, 190, 140), (220, 140, 120))
GREYS = ((150, 155, 165), (120, 125, 135), (185, 188, 192))
GREENS = ((52, 68, 38), (70, 80, 45), (40, 52, 34), (85, 80, 52), (60, 58, 50))
FIELDS = ((96, 110, 60), (130, 125, 80), (150, 130, 90), (84, 100, 58), (170, 160, 130))


def pick(draw: Draw, colours: tuple[tuple[int, int, int], ...], spread: float = 10.0) -> Floats:
    """One of the colours, a little off."""
    return (np.array(colours[draw.integers(len(colours))]) + draw.normal(0, spread, 3)).astype(np.float32)


def sky(draw: Draw, side: int) -> Floats:
    """A sky with more or fewer clouds, (side, side, 3) in [0, 255]."""
    mood = draw.random()
    if mood < 0.65:
        top, low, white = pick(draw, BLUES), pick(draw, HAZES), np.array([240, 242, 245], np.float32)
    elif mood < 0.8:
        top, low, white = pick(draw, DUSKS), pick(draw, GLOWS), pick(draw, GLOWS, 20)
    else:
        top, low, white = pick(draw, GREYS), pick(draw, GREYS), pick(draw, ((205, 208, 212),))
    picture: Floats = np.broadcast_to(ramp(top, low, side, draw.uniform(0.6, 1.6)), (side, side, 3)).copy()
    if draw.random() < 0.8:
        streaks = draw.uniform(1, 4)
        field = fractal(draw, side, side, cells=draw.uniform(1.5, 4), octaves=6, fade=0.58, stretch=streaks)
        cover = np.clip(
            (field - np.float32(draw.uniform(-0.8, 1.2))) * np.float32(draw.uniform(0.3, 1.0)), 0, 1
        )
        cover *= np.float32(draw.uniform(0.4, 1.0))
        lit = fractal(draw, side, side, cells=4, octaves=4)[..., None] * np.float32(9) - 12 * cover[..., None]
        picture += cover[..., None] * (white + lit - picture)
    return picture


def landscape(draw: Draw, side: int) -> Floats:
    """A sky over hills, a line of trees and a field, (side, side, 3) in [0, 255]."""
    picture = sky(draw, side)
    horizon = side * draw.uniform(0.35, 0.85)
    for far in np.linspace(1, 0, int(draw.integers(1, 4))):
        tone = pick(draw, GREENS) * (1 - 0.5 * far) + pick(draw, HAZES) * 0.5 * far
        line = horizon - side * (0.03 + 0.08 * far) - side * 0.03 * ridge(draw, side, cells=3, octaves=3)
        if far < 0.5:  # near enough to see its trees
            line -= np.abs(ridge(draw, side, cells=side / 16, octaves=3, fade=0.8)) * side * 0.012
        grain = fractal(draw, side, side, cells=side / 24, octaves=3, fade=0.9)[..., None]
        picture += below(line, side, 1.5) * (tone * (1 + (0.08 + 0.2 * (1 - far)) * grain) - picture)
    ground = ramp(pick(draw, FIELDS), pick(draw, FIELDS), side)
    grain = fractal(draw, side, side, cells=side / 12, octaves=4, fade=0.8, stretch=3)[..., None]
    line = horizon + side * 0.008 * ridge(draw, side, cells=4, octaves=2)
    picture += below(line, side, 1.5) * (ground * (1 + np.float32(0.12) * grain) - picture)
    return picture
