"""Meshes of flat quadrilaterals."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Point = tuple[float, float, float]

BODY, ARM, HOT, ROTOR, GLASS, TRIM = range(6)
"""Parts, each with its own colour; HOT is the warmest, ROTOR is translucent."""
PARTS = 6


class Mesh(NamedTuple):
    """A mesh.

    Attributes:
        faces: (F, 4, 3), x forward, y left, z up, in half spans.
        parts: (F,), indices below `PARTS`.
    """

    faces: Floats
    parts: NDArray[np.intp]


def join(*meshes: Mesh) -> Mesh:
    """Return one mesh with the faces of all."""
    return Mesh(np.concatenate([m.faces for m in meshes]), np.concatenate([m.parts for m in meshes]))


def plates(part: int, *quads: tuple[Point, Point, Point, Point]) -> Mesh:
    """Return flat quadrilaterals with these corners."""
    faces = np.asarray(quads, np.float32)
    return Mesh(faces, np.full(len(faces), part))


def block(part: int, centre: Point, size: Point) -> Mesh:
    """Return a cuboid."""
    unit = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], np.float32)
    faces = []
    for axis in range(3):
        for side in (-1, 1):
            face = np.full((4, 3), side, np.float32)
            face[:, [k for k in range(3) if k != axis]] = unit
            faces.append(face)
    solid = np.stack(faces) * np.asarray(size) / 2 + np.asarray(centre)
    return Mesh(np.asarray(solid, np.float32), np.full(6, part))


def tube(part: int, start: Point, end: Point, radius: float, to: float | None = None, sides: int = 5) -> Mesh:
    """Return a tube without caps, of `radius` at the start and `to` at the end."""
    a, b = np.asarray(start, np.float32), np.asarray(end, np.float32)
    along = (b - a) / max(float(np.linalg.norm(b - a)), 1e-6)
    across = np.cross(along, [0, 0, 1] if abs(along[2]) < 0.9 else [1, 0, 0])
    across /= np.linalg.norm(across)
    third = np.cross(along, across)
    angle = np.linspace(0, 2 * math.pi, sides + 1)[:, None]
    ring = (np.cos(angle) * across + np.sin(angle) * third).astype(np.float32)
    low, high = a + radius * ring, b + (radius if to is None else to) * ring
    faces = np.stack([low[:-1], low[1:], high[1:], high[:-1]], 1)
    return Mesh(faces.astype(np.float32), np.full(sides, part))


def ellipsoid(part: int, centre: Point, radii: Point, rings: int = 5, sides: int = 8) -> Mesh:
    """Return an ellipsoid with half axes `radii` and its poles along x."""
    polar = np.linspace(0, math.pi, rings + 1)[:, None]
    around = np.linspace(0, 2 * math.pi, sides + 1)[None, :]
    grid = np.stack(
        [
            np.cos(polar) * np.ones_like(around),
            np.sin(polar) * np.cos(around),
            np.sin(polar) * np.sin(around),
        ],
        -1,
    )
    grid = (grid * np.asarray(radii) + np.asarray(centre)).astype(np.float32)
    faces = np.stack([grid[:-1, :-1], grid[:-1, 1:], grid[1:, 1:], grid[1:, :-1]], 2).reshape(-1, 4, 3)
    return Mesh(faces, np.full(len(faces), part))


def blades(
    part: int, hub: Point, radius: float, chord: float, count: int, turn: float, *, upright: bool = False
) -> Mesh:
    """Return `count` rotor blades around `hub`, rotated by `turn` revolutions; upright: in the x-z plane."""
    quads = []
    for k in range(count):
        angle = 2 * math.pi * (turn + k / count)
        out = np.array([math.cos(angle), math.sin(angle)])
        side = np.array([-out[1], out[0]]) * chord / 2
        corners = [-side, side, radius * out + 0.6 * side, radius * out - 0.6 * side]
        quads.append([(x, 0.0, y) if upright else (x, y, 0.0) for x, y in corners])
    return Mesh(np.asarray(quads, np.float32) + np.asarray(hub, np.float32), np.full(count, part))


def disc(part: int, hub: Point, radius: float, *, upright: bool = False) -> Mesh:
    """Return the disc that a rotor covers."""
    angle = np.linspace(0, 2 * math.pi, 13)
    ring = radius * np.stack([np.cos(angle), np.sin(angle)], 1)
    quads = [[(0.0, 0.0), ring[k], ring[k + 1], ring[k + 2]] for k in range(0, 12, 2)]
    flat = [[(x, 0.0, y) if upright else (x, y, 0.0) for x, y in quad] for quad in quads]
    return Mesh(np.asarray(flat, np.float32) + np.asarray(hub, np.float32), np.full(6, part))
