"""Generated skies and landscapes."""

from __future__ import annotations

import numpy as np

from canton.track.synthetic.meshes import Floats
from canton.track.synthetic.noise import Rng, fractal_noise, gradient, mask_below, ridge

BLUES = ((58, 110, 180), (90, 140, 200), (120, 170, 220), (40, 80, 150), (150, 175, 200))
HAZES = ((170, 200, 225), (200, 215, 230), (225, 225, 220), (150, 180, 205))
DUSKS = ((60, 60, 100), (120, 80, 110), (90, 90, 120))
GLOWS = ((240, 170, 110), (235, 190, 140), (220, 140, 120))
GREYS = ((150, 155, 165), (120, 125, 135), (185, 188, 192))
GREENS = ((52, 68, 38), (70, 80, 45), (40, 52, 34), (85, 80, 52), (60, 58, 50))
FIELDS = ((96, 110, 60), (130, 125, 80), (150, 130, 90), (84, 100, 58), (170, 160, 130))


def pick_colour(rng: Rng, colours: tuple[tuple[int, int, int], ...], spread: float = 10.0) -> Floats:
    """Return a random colour with noise."""
    return (np.array(colours[rng.integers(len(colours))]) + rng.normal(0, spread, 3)).astype(np.float32)


def sky(rng: Rng, side: int) -> Floats:
    """Return a sky with clouds, (side, side, 3) in [0, 255]."""
    weather = rng.random()
    if weather < 0.65:
        top, low, white = (
            pick_colour(rng, BLUES),
            pick_colour(rng, HAZES),
            np.array([240, 242, 245], np.float32),
        )
    elif weather < 0.8:
        top, low, white = pick_colour(rng, DUSKS), pick_colour(rng, GLOWS), pick_colour(rng, GLOWS, 20)
    else:
        top, low, white = (
            pick_colour(rng, GREYS),
            pick_colour(rng, GREYS),
            pick_colour(rng, ((205, 208, 212),)),
        )
    image: Floats = np.broadcast_to(gradient(top, low, side, rng.uniform(0.6, 1.6)), (side, side, 3)).copy()
    if rng.random() < 0.8:
        streaks = rng.uniform(1, 4)
        field = fractal_noise(
            rng, side, side, cells=rng.uniform(1.5, 4), octaves=6, persistence=0.58, stretch=streaks
        )
        cover = np.clip(
            (field - np.float32(rng.uniform(-0.8, 1.2))) * np.float32(rng.uniform(0.3, 1.0)), 0, 1
        )
        cover *= np.float32(rng.uniform(0.4, 1.0))
        lit = (
            fractal_noise(rng, side, side, cells=4, octaves=4)[..., None] * np.float32(9)
            - 12 * cover[..., None]
        )
        image += cover[..., None] * (white + lit - image)
    return image


def landscape(rng: Rng, side: int) -> Floats:
    """Return a sky over hills, trees and a field, (side, side, 3) in [0, 255]."""
    image = sky(rng, side)
    horizon = side * rng.uniform(0.35, 0.85)
    for distance in np.linspace(1, 0, int(rng.integers(1, 4))):
        tone = pick_colour(rng, GREENS) * (1 - 0.5 * distance) + pick_colour(rng, HAZES) * 0.5 * distance
        line = horizon - side * (0.03 + 0.08 * distance) - side * 0.03 * ridge(rng, side, cells=3, octaves=3)
        if distance < 0.5:  # close enough for visible trees
            line -= np.abs(ridge(rng, side, cells=side / 16, octaves=3, persistence=0.8)) * side * 0.012
        grain = fractal_noise(rng, side, side, cells=side / 24, octaves=3, persistence=0.9)[..., None]
        image += mask_below(line, side, 1.5) * (tone * (1 + (0.08 + 0.2 * (1 - distance)) * grain) - image)
    ground = gradient(pick_colour(rng, FIELDS), pick_colour(rng, FIELDS), side)
    grain = fractal_noise(rng, side, side, cells=side / 12, octaves=4, persistence=0.8, stretch=3)[..., None]
    line = horizon + side * 0.008 * ridge(rng, side, cells=4, octaves=2)
    image += mask_below(line, side, 1.5) * (ground * (1 + np.float32(0.12) * grain) - image)
    return image
