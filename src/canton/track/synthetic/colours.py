"""Colours of flying objects, in visible light and in thermal images."""

from __future__ import annotations

import numpy as np

from canton.track.synthetic.meshes import ARM, BODY, GLASS, HOT, PARTS, ROTOR, TRIM, Floats
from canton.track.synthetic.noise import Rng

DARK = ((30, 30, 34), (45, 48, 52), (60, 62, 66))
PALE = ((225, 226, 228), (200, 202, 205), (175, 178, 182))
VIVID = ((170, 40, 35), (210, 120, 30), (200, 185, 50), (40, 110, 60), (40, 70, 150))
FEATHERS = ((40, 36, 34), (80, 68, 56), (120, 115, 108), (215, 212, 205), (60, 60, 65))
MIN_CONTRAST = 28.0
"""Smallest difference from the background, of 255; colours are shifted until they reach it."""


def visible_colours(rng: Rng, kind: str, background: Floats) -> Floats:
    """Return colours (PARTS, 4) in [0, 1] of a class against a background colour (3,), of 255."""
    families: tuple[tuple[tuple[int, int, int], ...], ...]
    if kind == "bird":
        families = (FEATHERS,)
    elif kind == "drone":
        families = (DARK, DARK, DARK, PALE, PALE, VIVID)
    else:
        families = (PALE, PALE, DARK, VIVID)
    colours = np.zeros((PARTS, 3), np.float32)
    family = families[rng.integers(len(families))]
    body = np.array(family[rng.integers(len(family))], np.float32)
    colours[:] = body + rng.normal(0, 6, (PARTS, 3))
    colours[ARM] = body * rng.uniform(0.6, 1.1) if kind != "bird" else body * rng.uniform(0.8, 1.1)
    colours[HOT] = DARK[rng.integers(3)] if kind != "airplane" else PALE[rng.integers(3)]
    colours[GLASS] = (35, 40, 50)
    colours[TRIM] = body * rng.uniform(0.5, 1.2) if rng.random() < 0.7 else VIVID[rng.integers(5)]
    colours[ROTOR] = rng.uniform(20, 140)
    contrast = float(colours[BODY].mean() - background.mean())
    if abs(contrast) < MIN_CONTRAST:
        colours[:] += (
            MIN_CONTRAST if contrast >= 0 and background.mean() < 200 else -MIN_CONTRAST
        ) - contrast
    opacity = np.ones((PARTS, 1), np.float32)
    opacity[ROTOR] = rng.uniform(0.05, 0.3)
    return np.concatenate([(colours / 255).clip(0, 1), opacity], 1).astype(np.float32)


def thermal_colours(rng: Rng, kind: str, background: float, *, hard: bool) -> Floats:
    """Return colours (PARTS, 4) in [0, 1], grey, against a background of 0 to 255.

    Most objects are warmer than the sky, often enough to saturate; a few are colder than the background.
    hard: reduce the contrast to about a quarter.
    """
    brightest = 255.0 - background
    glow = rng.uniform(0.7, 1.7) if kind == "drone" else rng.uniform(0.15, 1.5)
    contrast = glow * brightest
    if rng.random() < (0.06 if kind == "drone" else 0.1) and background > 60:
        contrast = -background * rng.uniform(0.4, 0.95)
    elif background > 170:
        contrast = -background * rng.uniform(0.2, 0.6)
    if hard:
        contrast *= rng.uniform(0.18, 0.4)
    contrast = np.sign(contrast) * max(abs(contrast), 14.0)
    parts = np.full(PARTS, 1.0, np.float32)
    parts[ARM] = rng.uniform(0.6, 1.0)
    parts[HOT] = rng.uniform(1.0, 1.5)
    parts[GLASS], parts[TRIM] = rng.uniform(0.5, 1.0), rng.uniform(0.5, 1.0)
    if kind == "bird":
        parts[ARM], parts[TRIM] = rng.uniform(0.35, 0.8), 1.0
    tones = (background + contrast * parts).clip(0, 255) / 255
    opacity = np.ones((PARTS, 1), np.float32)
    opacity[ROTOR] = rng.uniform(0.05, 0.25)
    return np.concatenate([np.repeat(tones[:, None], 3, 1), opacity], 1).astype(np.float32)
