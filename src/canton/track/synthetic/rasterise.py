"""Flyers rendered to cut-outs with transparency, and their place in a picture."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from canton.errors import require
from canton.track.boxes import Box
from canton.track.synthetic.meshes import ROTOR, Floats, Mesh
from canton.track.synthetic.targets import Draw, Flyer

if TYPE_CHECKING:
    import cv2
else:
    cv2 = require("cv2", extra="track")

FINE = 2
"""A cut-out has so many of its own px to a px of the picture, so that it can be turned and moved by
fractions.
"""
OVER = 2
"""And is drawn still so many times larger, to have smooth edges."""
SOLID = 0.35
"""A box holds what is at least so opaque, as a share of the most opaque px: the body, not the rotors'
haze.
"""


class Sprite(NamedTuple):
    """phases: cut-outs (side, side, 4) of red, green, blue times opacity, and opacity, in [0, 1]; one for
    each phase of the flyer's beat. beat: phases of the whole passed in a frame, in [0, 1). size_px: the
    longer side.
    """

    phases: tuple[Floats, ...]
    beat: float
    start: float
    size_px: float

    def at(self, frame: int) -> Floats:
        """The cut-out of a frame."""
        phase = (self.start + self.beat * frame) % 1.0
        return self.phases[int(phase * len(self.phases))]


def cut_out(
    flyer: Flyer,
    draw: Draw,
    *,
    size_px: float,
    colours: Floats,
    yaw: float,
    pitch: float,
    relief: float = 1.0,
    bloom_px: float = 0.0,
) -> Sprite:
    """`flyer` seen from one side.

    Args:
        size_px: the longer side of its box in the picture.
        colours: (PARTS, 4), red, green, blue in [0, 1] and opacity.
        yaw, pitch: where it heads and from how far below it is seen, in radians.
        relief: 1 for faces lit by the sun, 0 for faces that glow by themselves.
        bloom_px: what its outline grows by, as of things that glow.
    """
    turn = _turn(yaw, pitch)
    light = draw.normal(size=3) + np.array([0, 0, 1.5])
    light = turn @ (light / np.linalg.norm(light))
    posed = [flyer.pose(k / flyer.phases) for k in range(flyer.phases)]
    seen = posed[0].faces[posed[0].parts != ROTOR] @ turn.T
    extent = float(np.ptp(seen[..., :2].reshape(-1, 2), axis=0).max())
    middle = (seen[..., :2].max((0, 1)) + seen[..., :2].min((0, 1))) / 2
    scale = size_px * FINE * OVER / extent
    side = int(math.ceil(size_px * 1.8) + 4) * FINE
    phases = tuple(_paint(mesh, turn, middle, scale, side, colours, light, relief) for mesh in posed)
    if bloom_px > 0:
        phases = tuple(_bloom(phase, bloom_px) for phase in phases)
    return Sprite(phases, float(draw.uniform(*flyer.beat)), float(draw.random()), size_px)


def _turn(yaw: float, pitch: float) -> Floats:
    """From x forward, y left, z up to x right, y down, z away."""
    cy, sy, cp, sp = math.cos(yaw), math.sin(yaw), math.cos(pitch), math.sin(pitch)
    about = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    view = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])
    return np.asarray(view @ tilt @ about, np.float32)


def _paint(
    mesh: Mesh,
    turn: Floats,
    middle: Floats,
    scale: float,
    side: int,
    colours: Floats,
    light: Floats,
    relief: float,
) -> Floats:
    """Far faces first, near ones over them; what turns fast is a haze over all."""
    faces = mesh.faces @ turn.T
    normal = np.cross(faces[:, 2] - faces[:, 0], faces[:, 3] - faces[:, 1])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
    normal *= -np.sign(normal[:, 2:] + 1e-9)  # both sides are seen: take the one that looks at us
    shade = 1 - relief * (0.6 - 0.6 * np.clip(normal @ light, 0, 1) - 0.15 * np.clip(-normal[:, 1], 0, 1))
    large = side * OVER
    corners = np.round((faces[..., :2] - middle) * scale + large / 2).astype(np.int32)
    picture, haze = np.zeros((large, large, 4), np.uint8), np.zeros((large, large), np.uint8)
    tones = np.full((len(faces), 4), 255.0)
    tones[:, :3] *= np.clip(colours[mesh.parts, :3] * shade[:, None], 0, 1)
    order = np.argsort(-faces[..., 2].mean(1))
    for face, tone, part in zip(
        corners[order], tones[order].tolist(), mesh.parts[order].tolist(), strict=True
    ):
        if part == ROTOR:
            cv2.fillConvexPoly(haze, face, 255)
        else:
            cv2.fillConvexPoly(picture, face, tone)
    small = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    veil = cv2.resize(haze, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)
    veil = veil[..., None] * (colours[ROTOR, 3] / 255)
    over = np.append(colours[ROTOR, :3], 1).astype(np.float32)
    return np.asarray(small * (1 - veil) + veil * over, np.float32)


def _bloom(cut: Floats, bloom_px: float) -> Floats:
    width = 2 * round(bloom_px * FINE) + 1
    shape = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    return np.asarray(cv2.dilate(cut, shape), np.float32)


def place(cut: Floats, centre: tuple[float, float], scale: float, roll: float) -> tuple[Floats, int, int]:
    """The cut-out as it lies in the picture: a patch of px, and the column and row of its first px.

    centre: px of the picture, the first px reaching from 0 to 1. roll: radians. scale: of its drawn size.
    """
    side = cut.shape[0]
    reach = math.ceil(side / FINE * scale * 0.5) + 2
    left, top = math.floor(centre[0]) - reach, math.floor(centre[1]) - reach
    k = FINE / scale
    c, s = k * math.cos(roll), k * math.sin(roll)
    x, y = centre[0] - left - 0.5, centre[1] - top - 0.5  # cv2 counts from the middle of a px
    middle = side / 2 - 0.5
    back = np.array([[c, s, middle - c * x - s * y], [-s, c, middle + s * x - c * y]], np.float32)
    if k > FINE:  # shrunk further than it was drawn for
        cut = np.asarray(cv2.blur(cut, (2, 2) if k < 2 * FINE else (4, 4)), np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    patch = cv2.warpAffine(cut, back, (2 * reach, 2 * reach), flags=flags)
    return np.asarray(patch, np.float32), left, top


def box_of(patch: Floats, left: int, top: int) -> Box:
    """The box around what is solid in a placed cut-out, its edges found between px."""
    opacity = patch[..., 3]
    x0, x1 = _edges(opacity.max(0))
    y0, y1 = _edges(opacity.max(1))
    return Box(left + x0, top + y0, x1 - x0, y1 - y0)


def _edges(profile: Floats) -> tuple[float, float]:
    """Where a profile rises over SOLID of its summit and where it last falls below."""
    level = SOLID * float(profile.max())
    inside = np.flatnonzero(profile >= level)
    first, last = int(inside[0]), int(inside[-1])
    before, after = profile[max(first - 1, 0)], profile[min(last + 1, len(profile) - 1)]
    start = first + 0.5 - float((profile[first] - level) / max(profile[first] - before, 1e-6))
    end = last + 0.5 + float((profile[last] - level) / max(profile[last] - after, 1e-6))
    return max(start, first - 0.5), min(end, last + 1.5)
