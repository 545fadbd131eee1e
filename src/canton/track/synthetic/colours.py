"""Colours of what flies, by day and as heat."""

from __future__ import annotations

import numpy as np

from canton.track.synthetic.meshes import ARM, BODY, GLASS, HOT, PARTS, ROTOR, TRIM, Floats
from canton.track.synthetic.noise import Draw

DARK = ((30, 30, 34), (45, 48, 52), (60, 62, 66))
PALE = ((225, 226, 228), (200, 202, 205), (175, 178, 182))
GAY = ((170, 40, 35), (210, 120, 30), (200, 185, 50), (40, 110, 60), (40, 70, 150))
FEATHERS = ((40, 36, 34), (80, 68, 56), (120, 115, 108), (215, 212, 205), (60, 60, 65))
LEAST = 28.0
"""Of 255: what by day differs less from what is behind it is painted darker or brighter until it does."""


def day_paint(draw: Draw, kind: str, behind: Floats) -> Floats:
    """(PARTS, 4) in [0, 1], for `kind` before a place of colour `behind` (3,), of 255."""
    families: tuple[tuple[tuple[int, int, int], ...], ...]
    if kind == "bird":
        families = (FEATHERS,)
    elif kind == "drone":
        families = (DARK, DARK, DARK, PALE, PALE, GAY)
    else:
        families = (PALE, PALE, DARK, GAY)
    colours = np.zeros((PARTS, 3), np.float32)
    family = families[draw.integers(len(families))]
    body = np.array(family[draw.integers(len(family))], np.float32)
    colours[:] = body + draw.normal(0, 6, (PARTS, 3))
    colours[ARM] = body * draw.uniform(0.6, 1.1) if kind != "bird" else body * draw.uniform(0.8, 1.1)
    colours[HOT] = DARK[draw.integers(3)] if kind != "airplane" else PALE[draw.integers(3)]
    colours[GLASS] = (35, 40, 50)
    colours[TRIM] = body * draw.uniform(0.5, 1.2) if draw.random() < 0.7 else GAY[draw.integers(5)]
    colours[ROTOR] = draw.uniform(20, 140)
    apart = float(colours[BODY].mean() - behind.mean())
    if abs(apart) < LEAST:
        colours[:] += (LEAST if apart >= 0 and behind.mean() < 200 else -LEAST) - apart
    opacity = np.ones((PARTS, 1), np.float32)
    opacity[ROTOR] = draw.uniform(0.05, 0.3)
    return np.concatenate([(colours / 255).clip(0, 1), opacity], 1).astype(np.float32)


def heat_paint(draw: Draw, kind: str, behind: float, *, hard: bool) -> Floats:
    """(PARTS, 4) in [0, 1], all channels alike, before a sky of `behind`, of 255.

    Most things glow before a cold sky, so much that the picture saturates; a few are colder than what is
    behind them. hard: the contrast is cut to about a quarter.
    """
    brightest = 255.0 - behind
    glow = draw.uniform(0.7, 1.7) if kind == "drone" else draw.uniform(0.15, 1.5)
    apart = glow * brightest
    if draw.random() < (0.06 if kind == "drone" else 0.1) and behind > 60:
        apart = -behind * draw.uniform(0.4, 0.95)
    elif behind > 170:
        apart = -behind * draw.uniform(0.2, 0.6)
    if hard:
        apart *= draw.uniform(0.18, 0.4)
    apart = np.sign(apart) * max(abs(apart), 14.0)
    parts = np.full(PARTS, 1.0, np.float32)
    parts[ARM] = draw.uniform(0.6, 1.0)
    parts[HOT] = draw.uniform(1.0, 1.5)
    parts[GLASS], parts[TRIM] = draw.uniform(0.5, 1.0), draw.uniform(0.5, 1.0)
    if kind == "bird":
        parts[ARM], parts[TRIM] = draw.uniform(0.35, 0.8), 1.0
    tones = (behind + apart * parts).clip(0, 255) / 255
    opacity = np.ones((PARTS, 1), np.float32)
    opacity[ROTOR] = draw.uniform(0.05, 0.25)
    return np.concatenate([np.repeat(tones[:, None], 3, 1), opacity], 1).astype(np.float32)
