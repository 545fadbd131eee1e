"""Shapes of the targets: drones, birds, airplanes and helicopters.

Every shape is random, with proportions typical of its class.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from canton.track.synthetic.meshes import (
    ARM,
    BODY,
    GLASS,
    HOT,
    ROTOR,
    TRIM,
    Mesh,
    Point,
    blades,
    block,
    disc,
    ellipsoid,
    join,
    plates,
    tube,
)
from canton.track.synthetic.noise import Rng


class TargetShape(NamedTuple):
    """A shape.

    Attributes:
        class_name: such as "drone".
        pose: returns its mesh at a phase in [0, 1) of its wing beat or rotor turn.
        phases: number of distinct phases.
        phase_rate: lowest and highest share of the period per frame.
    """

    class_name: str
    pose: Callable[[float], Mesh]
    phases: int
    phase_rate: tuple[float, float]


def quadcopter(rng: Rng) -> TargetShape:
    """Return a drone with four rotors."""
    return _copter(rng, 4)


def hexacopter(rng: Rng) -> TargetShape:
    """Return a drone with six rotors."""
    return _copter(rng, 6)


def _copter(rng: Rng, arms: int) -> TargetShape:
    long, wide, high = rng.uniform(0.3, 0.5), rng.uniform(0.16, 0.3), rng.uniform(0.09, 0.16)
    rise, rotor = rng.uniform(-0.02, 0.14), rng.uniform(0.3, 0.5) * (1 if arms == 4 else 0.8)
    open_angle = rng.uniform(0.9, 1.15)
    hubs: list[tuple[float, float, float]] = []
    for k in range(arms):
        angle = 2 * math.pi * (k + 0.5) / arms
        hubs.append((math.cos(angle), math.sin(angle) * open_angle, rise))
    shell = ellipsoid if rng.random() < 0.6 else block
    size = (long, wide, high) if shell is ellipsoid else (1.6 * long, 1.6 * wide, 1.6 * high)
    fixed = [shell(BODY, (0, 0, 0), size)]
    fixed.append(ellipsoid(GLASS, (0.7 * long, 0, -high), (0.1, 0.1, 0.1), 3, 5))
    for x, y, z in hubs:
        fixed.append(tube(ARM, (0.3 * x * long, 0.5 * y * wide, 0), (x, y, z), 0.07, 0.05, 4))
        fixed.append(tube(HOT, (x, y, z - 0.08), (x, y, z + 0.1), 0.1, 0.08))
        fixed.append(disc(HOT, (x, y, z + 0.1), 0.08))
    legs = rng.integers(3)
    for side in (-1, 1):
        if legs == 0:  # skids
            foot = (side * 0.3, -high - 0.32)
            fixed.append(tube(TRIM, (-0.35, *foot), (0.35, *foot), 0.03, sides=4))
            fixed += [tube(TRIM, (x, 0.5 * side * wide, 0), (x, *foot), 0.03, sides=3) for x in (-0.2, 0.2)]
        elif legs == 1:  # feet below the motors
            for x, y, z in hubs[:: 2 if arms == 6 else 1]:
                fixed.append(tube(TRIM, (x, y, z), (x, y, z - 0.3), 0.05, 0.03, 3))
    still = join(*fixed, *(disc(ROTOR, (x, y, z + 0.16), rotor) for x, y, z in hubs))
    starts = rng.random(arms)

    def pose(phase: float) -> Mesh:
        turning = [
            blades(TRIM, (x, y, z + 0.16), rotor, 0.09, 2, s + phase / 2)
            for (x, y, z), s in zip(hubs, starts, strict=True)
        ]
        return join(still, *turning)

    return TargetShape("drone", pose, 3, (0.4, 1.4))


def fixed_wing(rng: Rng) -> TargetShape:
    """Return a fixed-wing drone: slim with a tail, or a flying wing."""
    if rng.random() < 0.4:
        nose, sweep, tip = rng.uniform(0.25, 0.45), rng.uniform(0.3, 0.6), rng.uniform(0.1, 0.2)
        parts = [ellipsoid(BODY, (0.05, 0, 0.02), (nose + 0.1, 0.12, 0.09))]
        for s in (-1, 1):
            end = (nose - 0.15 - sweep, s, 0.05)
            parts.append(plates(ARM, ((nose, 0, 0), end, (end[0] - tip, s, 0.05), (-0.25, 0, 0))))
            parts.append(plates(TRIM, _fin(end[0], s, 0.05, 0.22, tip)))
        engine = (-0.3, 0.0, 0.05)
    else:
        chord, at, tail = rng.uniform(0.14, 0.26), rng.uniform(0.0, 0.25), rng.uniform(0.6, 0.85)
        parts = [
            ellipsoid(BODY, (0, 0, 0), (0.5, 0.09, 0.1)),
            tube(ARM, (0, 0, 0), (-tail, 0, 0.02), 0.05, 0.03),
        ]
        for s in (-1, 1):
            end = (at - 0.05, s, rng.uniform(0.0, 0.1))
            parts.append(
                plates(ARM, ((at, 0, 0.07), end, (end[0] - 0.7 * chord, s, end[2]), (at - chord, 0, 0.07)))
            )
            parts.append(
                plates(
                    TRIM,
                    (
                        (-tail, 0, 0),
                        (-tail - 0.03, s * 0.3, 0.16),
                        (-tail - 0.15, s * 0.3, 0.16),
                        (-tail - 0.15, 0, 0),
                    ),
                )
            )
        engine = (0.5, 0.0, 0.0) if rng.random() < 0.5 else (-0.35, 0.0, 0.1)
    parts.append(tube(HOT, (engine[0] - 0.1, 0, engine[2]), (engine[0] + 0.1, 0, engine[2]), 0.07))
    still = join(*parts)

    def pose(phase: float) -> Mesh:
        return join(still, blades(ROTOR, engine, 0.2, 0.06, 2, phase / 2, upright=True))

    return TargetShape("drone", pose, 2, (0.4, 1.2))


def _fin(x: float, y: float, z: float, high: float, deep: float) -> tuple[Point, Point, Point, Point]:
    return ((x, y, z), (x - 0.6 * deep, y, z + high), (x - 1.2 * deep, y, z + high), (x - deep, y, z))


def airplane(rng: Rng) -> TargetShape:
    """Return an airliner or a small propeller airplane."""
    jet = rng.random() < 0.65
    thick, sweep = rng.uniform(0.085, 0.13), rng.uniform(0.25, 0.5) if jet else rng.uniform(-0.02, 0.06)
    low = -0.05 if jet or rng.random() < 0.5 else 0.1
    root, tip = rng.uniform(0.28, 0.4), rng.uniform(0.08, 0.14) if jet else rng.uniform(0.16, 0.24)
    parts = [ellipsoid(BODY, (0, 0, 0), (1.0, thick, thick * 1.1), 8)]
    for s in (-1, 1):
        end = (0.2 - sweep, s * rng.uniform(0.85, 1.0), low + (0.08 if jet else 0.02))
        parts.append(plates(ARM, ((0.2, 0, low), end, (end[0] - tip, *end[1:]), (0.2 - root, 0, low))))
        parts.append(
            plates(ARM, ((-0.75, 0, 0.05), (-0.9, s * 0.35, 0.08), (-1.0, s * 0.35, 0.08), (-0.95, 0, 0.05)))
        )
        if jet:
            x = 0.15 - 0.4 * sweep
            parts.append(tube(HOT, (x, s * 0.33, low - 0.08), (x - 0.2, s * 0.33, low - 0.08), 0.06, 0.045))
    parts.append(plates(TRIM, ((-0.65, 0, 0.08), (-0.9, 0, 0.4), (-1.05, 0, 0.4), (-0.95, 0, 0.05))))
    parts.append(ellipsoid(GLASS, (0.78, 0, 0.05), (0.12, 0.05, 0.05), 3, 5))
    still = join(*parts)

    def pose(phase: float) -> Mesh:
        return (
            still if jet else join(still, blades(ROTOR, (1.0, 0, 0), 0.22, 0.06, 2, phase / 2, upright=True))
        )

    return TargetShape("airplane", pose, 1 if jet else 2, (0.4, 1.2))


def helicopter(rng: Rng) -> TargetShape:
    """Return a helicopter."""
    long, high = rng.uniform(0.36, 0.5), rng.uniform(0.16, 0.24)
    tail, count, span = rng.uniform(0.85, 1.1), int(rng.integers(2, 6)), rng.uniform(0.8, 1.05)
    mast = high + 0.14
    parts = [
        ellipsoid(BODY, (0.1, 0, 0), (long, 0.17, high)),
        ellipsoid(GLASS, (0.1 + 0.65 * long, 0, 0.02), (0.3 * long, 0.13, 0.6 * high), 4, 6),
        block(HOT, (0, 0, high), (0.4, 0.16, 0.12)),
        tube(ARM, (-0.15, 0, 0.05), (-tail, 0, 0.1), 0.09, 0.03),
        plates(
            TRIM,
            (
                (-tail + 0.12, 0, 0.1),
                (-tail - 0.06, 0, 0.34),
                (-tail - 0.16, 0, 0.34),
                (-tail - 0.05, 0, 0.08),
            ),
        ),
        tube(TRIM, (0, 0, high), (0, 0, mast), 0.04),
        disc(ROTOR, (0, 0, mast), span),
    ]
    if rng.random() < 0.6:
        for s in (-1, 1):
            parts.append(
                tube(TRIM, (-0.25, s * 0.2, -high - 0.14), (0.45, s * 0.2, -high - 0.14), 0.025, sides=3)
            )
            parts += [
                tube(TRIM, (x, s * 0.08, -high + 0.04), (x, s * 0.2, -high - 0.14), 0.02, sides=3)
                for x in (-0.1, 0.25)
            ]
    still = join(*parts)

    def pose(phase: float) -> Mesh:
        return join(
            still,
            blades(TRIM, (0, 0, mast), span, 0.06, count, phase / count),
            blades(ROTOR, (-tail, 0.04, 0.22), 0.17, 0.05, 2, 1.7 * phase, upright=True),
        )

    return TargetShape("helicopter", pose, 3, (0.5, 1.4))


def bird(rng: Rng) -> TargetShape:
    """Return a bird that flaps or glides."""
    beat = rng.uniform(0.15, 0.35) if rng.random() < 0.3 else rng.uniform(0.5, 1.1)
    chord, body, sweep = rng.uniform(0.24, 0.4), rng.uniform(0.08, 0.13), rng.uniform(0.05, 0.3)
    parts = [
        ellipsoid(BODY, (0, 0, 0), (0.42, body, body)),
        ellipsoid(TRIM, (0.42, 0, 0.04), (0.13, 0.07, 0.07), 3, 5),
        plates(ARM, ((-0.3, 0.03, 0), (-0.62, 0.12, 0), (-0.62, -0.12, 0), (-0.3, -0.03, 0))),
    ]
    still = join(*parts)

    def pose(phase: float) -> Mesh:
        inner = beat * math.sin(2 * math.pi * phase)
        outer = inner + 0.8 * beat * math.sin(2 * math.pi * phase - 1.2) - 0.15
        wings = []
        for s in (-1, 1):
            elbow = (0.12, s * 0.48 * math.cos(inner), 0.48 * math.sin(inner))
            tip = (0.1 - sweep, elbow[1] + s * 0.55 * math.cos(outer), elbow[2] + 0.55 * math.sin(outer))
            back = (elbow[0] - 0.9 * chord, elbow[1], elbow[2])
            wings.append(((0.15, 0.0, 0.03), elbow, back, (0.15 - chord, 0.0, 0.03)))
            wings.append((elbow, tip, (tip[0] - 0.25 * chord, tip[1], tip[2]), back))
        return join(still, plates(ARM, *wings))

    return TargetShape("bird", pose, 8, (0.12, 0.45))


DRONES: tuple[Callable[[Rng], TargetShape], ...] = (quadcopter, quadcopter, hexacopter, fixed_wing)
"""Quadcopters are the most common."""
CLASSES: tuple[tuple[str, tuple[Callable[[Rng], TargetShape], ...]], ...] = (
    ("drone", DRONES),
    ("bird", (bird,)),
    ("airplane", (airplane,)),
    ("helicopter", (helicopter,)),
)
"""The classes and the functions that return their shapes."""
