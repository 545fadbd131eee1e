"""Rendering of meshes to sprites with transparency, and their placement in an image."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from canton.errors import require
from canton.track.boxes import Box
from canton.track.synthetic.meshes import ROTOR, Floats, Mesh
from canton.track.synthetic.noise import Rng
from canton.track.synthetic.targets import TargetShape

if TYPE_CHECKING:
    import cv2
else:
    cv2 = require("cv2", extra="track")

SPRITE_SCALE = 2
"""Sprite pixels per image pixel, so that a sprite can be rotated and moved by fractions."""
SUPERSAMPLING = 2
"""Further enlargement while drawing, for smooth edges."""
SOLID_OPACITY = 0.35
"""Opacity, relative to the maximum, from which a pixel belongs to the box: the body, not the rotors."""


class Sprite(NamedTuple):
    """A rendered object.

    Attributes:
        phases: (side, side, 4) premultiplied RGB and opacity in [0, 1], one per phase of the motion.
        phase_rate: share of the motion's period per frame, in [0, 1).
        start: phase of the first frame.
        size_px: longer side.
    """

    phases: tuple[Floats, ...]
    phase_rate: float
    start: float
    size_px: float

    def at(self, frame: int) -> Floats:
        """Return the image of a frame."""
        phase = (self.start + self.phase_rate * frame) % 1.0
        return self.phases[int(phase * len(self.phases))]


def render_sprite(
    shape: TargetShape,
    rng: Rng,
    *,
    size_px: float,
    colours: Floats,
    yaw: float,
    pitch: float,
    relief: float = 1.0,
    bloom_px: float = 0.0,
) -> Sprite:
    """Render a shape from one side.

    Args:
        size_px: longer side of its box in the image.
        colours: (PARTS, 4), RGB and opacity in [0, 1].
        yaw, pitch: heading, and angle from below, in rad.
        relief: 1 for faces lit by the sun, 0 for faces that emit light.
        bloom_px: growth of the outline by glow, in px.
    """
    rotation = _rotation(yaw, pitch)
    light = rng.normal(size=3) + np.array([0, 0, 1.5])
    light = rotation @ (light / np.linalg.norm(light))
    posed = [shape.pose(k / shape.phases) for k in range(shape.phases)]
    rotated = posed[0].faces[posed[0].parts != ROTOR] @ rotation.T
    extent = float(np.ptp(rotated[..., :2].reshape(-1, 2), axis=0).max())
    middle = (rotated[..., :2].max((0, 1)) + rotated[..., :2].min((0, 1))) / 2
    scale = size_px * SPRITE_SCALE * SUPERSAMPLING / extent
    side = int(math.ceil(size_px * 1.8) + 4) * SPRITE_SCALE
    phases = tuple(_rasterise(mesh, rotation, middle, scale, side, colours, light, relief) for mesh in posed)
    if bloom_px > 0:
        phases = tuple(_bloom(phase, bloom_px) for phase in phases)
    return Sprite(phases, float(rng.uniform(*shape.phase_rate)), float(rng.random()), size_px)


def _rotation(yaw: float, pitch: float) -> Floats:
    """Return the rotation from (x forward, y left, z up) to (x right, y down, z away)."""
    cy, sy, cp, sp = math.cos(yaw), math.sin(yaw), math.cos(pitch), math.sin(pitch)
    about = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    view = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])
    return np.asarray(view @ tilt @ about, np.float32)


def _rasterise(
    mesh: Mesh,
    rotation: Floats,
    middle: Floats,
    scale: float,
    side: int,
    colours: Floats,
    light: Floats,
    relief: float,
) -> Floats:
    """Draw the faces from far to near, then the rotors as a translucent layer."""
    faces = mesh.faces @ rotation.T
    normal = np.cross(faces[:, 2] - faces[:, 0], faces[:, 3] - faces[:, 1])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
    normal *= -np.sign(normal[:, 2:] + 1e-9)  # faces have two sides: use the one towards the camera
    shade = 1 - relief * (0.6 - 0.6 * np.clip(normal @ light, 0, 1) - 0.15 * np.clip(-normal[:, 1], 0, 1))
    large = side * SUPERSAMPLING
    corners = np.round((faces[..., :2] - middle) * scale + large / 2).astype(np.int32)
    image, rotor_mask = np.zeros((large, large, 4), np.uint8), np.zeros((large, large), np.uint8)
    tones = np.full((len(faces), 4), 255.0)
    tones[:, :3] *= np.clip(colours[mesh.parts, :3] * shade[:, None], 0, 1)
    order = np.argsort(-faces[..., 2].mean(1))
    for face, tone, part in zip(
        corners[order], tones[order].tolist(), mesh.parts[order].tolist(), strict=True
    ):
        if part == ROTOR:
            cv2.fillConvexPoly(rotor_mask, face, 255)
        else:
            cv2.fillConvexPoly(image, face, tone)
    small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    rotor_opacity = cv2.resize(rotor_mask, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)
    rotor_opacity = rotor_opacity[..., None] * (colours[ROTOR, 3] / 255)
    over = np.append(colours[ROTOR, :3], 1).astype(np.float32)
    return np.asarray(small * (1 - rotor_opacity) + rotor_opacity * over, np.float32)


def _bloom(sprite: Floats, bloom_px: float) -> Floats:
    width = 2 * round(bloom_px * SPRITE_SCALE) + 1
    element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    return np.asarray(cv2.dilate(sprite, element), np.float32)


def warp_sprite(
    sprite: Floats, centre: tuple[float, float], scale: float, roll: float
) -> tuple[Floats, int, int]:
    """Return a sprite's patch of the image, and the column and row of its first pixel.

    Args:
        sprite: the sprite's image.
        centre: x, y in px of the image; the first pixel is from 0 to 1.
        scale: relative to the rendered size.
        roll: in rad.
    """
    side = sprite.shape[0]
    reach = math.ceil(side / SPRITE_SCALE * scale * 0.5) + 2
    left, top = math.floor(centre[0]) - reach, math.floor(centre[1]) - reach
    k = SPRITE_SCALE / scale
    c, s = k * math.cos(roll), k * math.sin(roll)
    x, y = centre[0] - left - 0.5, centre[1] - top - 0.5  # cv2 counts from the centre of a pixel
    middle = side / 2 - 0.5
    back = np.array([[c, s, middle - c * x - s * y], [-s, c, middle + s * x - c * y]], np.float32)
    if k > SPRITE_SCALE:  # smaller than rendered: avoid aliasing
        sprite = np.asarray(cv2.blur(sprite, (2, 2) if k < 2 * SPRITE_SCALE else (4, 4)), np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    patch = cv2.warpAffine(sprite, back, (2 * reach, 2 * reach), flags=flags)
    return np.asarray(patch, np.float32), left, top


def solid_box(patch: Floats, left: int, top: int) -> Box:
    """Return the box around the opaque part of a placed sprite, with subpixel edges."""
    opacity = patch[..., 3]
    x0, x1 = _edges(opacity.max(0))
    y0, y1 = _edges(opacity.max(1))
    return Box(left + x0, top + y0, x1 - x0, y1 - y0)


def _edges(profile: Floats) -> tuple[float, float]:
    """Return where a profile first rises above SOLID_OPACITY of its maximum and where it last falls below."""
    level = SOLID_OPACITY * float(profile.max())
    inside = np.flatnonzero(profile >= level)
    first, last = int(inside[0]), int(inside[-1])
    before, after = profile[max(first - 1, 0)], profile[min(last + 1, len(profile) - 1)]
    start = first + 0.5 - float((profile[first] - level) / max(profile[first] - before, 1e-6))
    end = last + 0.5 + float((profile[last] - level) / max(profile[last] - after, 1e-6))
    return max(start, first - 0.5), min(end, last + 1.5)
