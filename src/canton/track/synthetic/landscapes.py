"""Generated facades, grass, trees and clutter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from canton.errors import require
from canton.track.synthetic.meshes import Floats
from canton.track.synthetic.noise import Rng, fractal_noise, gradient
from canton.track.synthetic.skies import BLUES, FIELDS, GREENS, GREYS, HAZES, pick_colour, sky

if TYPE_CHECKING:
    import cv2
else:
    cv2 = require("cv2", extra="track")

WALLS = ((150, 90, 70), (190, 170, 140), (165, 160, 155), (120, 115, 110), (200, 190, 170), (110, 70, 60))
BARKS = ((70, 55, 42), (95, 85, 75), (50, 42, 36))
LEAVES = ((60, 90, 35), (85, 110, 45), (45, 75, 40), (120, 110, 40), (150, 95, 40), (100, 105, 85))


def facade(rng: Rng, side: int) -> Floats:
    """Return a wall with windows, in perspective."""
    wall = pick_colour(rng, WALLS)
    image = wall * (1 + np.float32(0.05) * fractal_noise(rng, side, side, cells=6, octaves=5)[..., None])
    if rng.random() < 0.5:  # courses of brick or panels
        course = int(rng.integers(4, 14))
        image[::course] *= np.float32(rng.uniform(0.75, 0.95))
    step_x, step_y = int(rng.integers(side // 11, side // 4)), int(rng.integers(side // 11, side // 5))
    wide, high = int(step_x * rng.uniform(0.35, 0.8)), int(step_y * rng.uniform(0.4, 0.8))
    frame = (wall * rng.uniform(0.6, 1.5)).clip(0, 255).tolist()
    glass, mirrored = pick_colour(rng, ((50, 60, 75), (80, 95, 110), (30, 35, 40))), pick_colour(rng, BLUES)
    bars, ledge = int(rng.integers(0, 3)), rng.random() < 0.5
    for y in range(-step_y // 2, side, step_y):
        for x in range(-step_x // 2, side, step_x):
            share = rng.beta(0.6, 0.9)
            pane = (
                (glass * (1 - share) + mirrored * share).tolist() if rng.random() < 0.9 else (235, 215, 160)
            )
            cv2.rectangle(image, (x - 2, y - 2), (x + wide + 2, y + high + 2), frame, -1)
            cv2.rectangle(image, (x, y), (x + wide, y + high), pane, -1)
            for k in range(bars):
                at = x + wide * (k + 1) // (bars + 1)
                cv2.line(image, (at, y), (at, y + high), frame, 1)
            if ledge:
                cv2.rectangle(image, (x - 3, y + high + 3), (x + wide + 3, y + high + 6), frame, -1)
    return _perspective(rng, image)


def _perspective(rng: Rng, image: Floats) -> Floats:
    side = image.shape[0]
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32) * side
    moved = corners + rng.uniform(-0.18, 0.0, (4, 2)).astype(np.float32) * side * np.sign(side / 2 - corners)
    view = cv2.getPerspectiveTransform(corners, moved)
    return np.asarray(
        cv2.warpPerspective(image, view, (side, side), borderMode=cv2.BORDER_REFLECT), np.float32
    )


def grass(rng: Rng, side: int) -> Floats:
    """Return a meadow from above: patches and thousands of blades."""
    dry = fractal_noise(rng, side, side, cells=3, octaves=5)[..., None]
    share = np.clip(0.5 + np.float32(0.35) * dry, 0, 1)
    image = pick_colour(rng, LEAVES) * (1 - share) + pick_colour(rng, FIELDS) * share
    fine = rng.standard_normal((side, side), np.float32)
    lean, long = rng.uniform(-0.6, 0.6), int(rng.integers(3, 9))
    blade = np.zeros((2 * long + 1, 2 * long + 1), np.float32)
    cv2.line(blade, (long - int(lean * long), 2 * long), (long + int(lean * long), 0), 1.0, 1)
    strokes = cv2.filter2D(fine, -1, blade / np.sqrt(blade.sum()), borderType=cv2.BORDER_REFLECT)
    return np.asarray(image * (1 + np.float32(rng.uniform(0.12, 0.3)) * strokes[..., None]), np.float32)


def trees(rng: Rng, side: int) -> Floats:
    """Return tree crowns, dark at the back and bright at the front, with branches in front of a sky."""
    image = (
        sky(rng, side)
        if rng.random() < 0.6
        else np.broadcast_to(pick_colour(rng, GREENS), (side, side, 3)).copy()
    )
    bark, leaf = pick_colour(rng, BARKS), pick_colour(rng, LEAVES)
    for _ in range(int(rng.integers(2, 7))):
        _branch(
            rng,
            image,
            (rng.uniform(0, side), side * 1.05),
            -1.57,
            side * 0.22,
            side * 0.03,
            bark.tolist(),
            5,
        )
    count = int(rng.integers(150, 900))
    crowns = rng.uniform(0, side, (int(rng.integers(2, 9)), 2))
    around = crowns[rng.integers(len(crowns), size=count)] + rng.normal(
        0, side * rng.uniform(0.08, 0.2), (count, 2)
    )
    depth = np.sort(rng.uniform(0.35, 1.25, count))
    tones = (leaf * depth[:, None] + rng.normal(0, 9, (count, 3))).clip(0, 255).tolist()
    axes = rng.uniform(2, side * 0.022, (count, 2)).astype(int)
    angles = rng.uniform(0, 180, count)
    for (x, y), axis, angle, tone in zip(
        around.astype(int).tolist(), axes.tolist(), angles.tolist(), tones, strict=True
    ):
        cv2.ellipse(image, (x, y), axis, angle, 0, 360, tone, -1)
    image += fractal_noise(rng, side, side, cells=side / 8, octaves=2, persistence=0.9)[
        ..., None
    ] * np.float32(7)
    return np.asarray(image, np.float32)


def _branch(
    rng: Rng,
    image: Floats,
    at: tuple[float, float],
    angle: float,
    long: float,
    thick: float,
    tone: list[float],
    forks: int,
) -> None:
    to = (at[0] + long * np.cos(angle), at[1] + long * np.sin(angle))
    cv2.line(image, (int(at[0]), int(at[1])), (int(to[0]), int(to[1])), tone, max(1, int(thick)))
    if forks and long > 3:
        for turn in rng.normal(0, 0.45, 2) + np.array([-0.3, 0.3]):
            _branch(
                rng, image, to, angle + turn, long * rng.uniform(0.6, 0.85), thick * 0.65, tone, forks - 1
            )


def clutter(rng: Rng, side: int) -> Floats:
    """Return overlapping shapes of all sizes, whose edges have the statistics of natural images.

    Source: the dead leaves model, Lee, Mumford & Huang 2001, International Journal of Computer Vision 41.
    """
    palette = [pick_colour(rng, family, 25) for family in (BLUES, GREYS, WALLS, GREENS, FIELDS, HAZES)]
    image = np.broadcast_to(palette[0], (side, side, 3)).copy()
    count = int(rng.integers(150, 450))
    radii = np.sort((side * 0.012) / rng.uniform(0.04, 1.0, count))[::-1]
    for radius in radii.tolist():
        tone = (palette[rng.integers(6)] * rng.uniform(0.5, 1.3)).clip(0, 255).tolist()
        x, y = rng.uniform(0, side, 2).tolist()
        shape, turn = rng.integers(3), rng.uniform(0, 180)
        wide, high = radius, radius * rng.uniform(0.25, 1)
        if shape == 0:
            cv2.ellipse(image, (int(x), int(y)), (int(wide), int(high)), turn, 0, 360, tone, -1)
        elif shape == 1:
            corners = cv2.boxPoints(((x, y), (2 * wide, 1.4 * high), turn)).astype(np.int32)
            cv2.fillConvexPoly(image, corners, tone)
        else:
            dx, dy = 3 * wide * np.cos(turn), 3 * wide * np.sin(turn)
            cv2.line(
                image, (int(x - dx), int(y - dy)), (int(x + dx), int(y + dy)), tone, max(1, int(high / 5))
            )
    white = np.ones(3, np.float32)
    light = gradient(
        white * np.float32(rng.uniform(0.8, 1.1)), white * np.float32(rng.uniform(0.8, 1.1)), side
    )
    grain = fractal_noise(rng, side, side, cells=side / 10, octaves=3, persistence=0.9)[..., None]
    return np.asarray(image * light + 5 * grain, np.float32)
