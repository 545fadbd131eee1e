"""Windows of clips for training: a few frames of a piece of the picture, changed in ways that change no
truth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from canton.track.boxes import Box, LabelledBox
from canton.track.data.degrade import reduce_contrast
from canton.track.data.frame_cache import CachedClip

COMMON_PX = 320
"""Width of most of the films this was made for."""


class Window(NamedTuple):
    """frames (T, size, size, 3) uint8, what is in each of them, and which do not follow from the one
    before.
    """

    frames: NDArray[np.uint8]
    named: list[list[LabelledBox]]
    cuts: NDArray[np.bool_]


def sample_window(
    clips: Sequence[CachedClip],
    rng: np.random.Generator,
    *,
    target_class: str,
    steps: int,
    size: int,
    share: float = 0.4,
    fast: float = 0.3,
    hard: float = 0.5,
    zoom: float = 1.4,
    far: float = 0.5,
    near: float = 2.2,
    flipped: float = 0.25,
    stretch: float = 1.15,
) -> Window:
    """A random window of footage: `steps` frames of a square of `size` px, mostly near what flies there.

    It may be played backwards or twice as fast, mirrored, zoomed, stretched, blurred, made brighter, darker
    or of less contrast, and what is coloured grey.

    Args:
        share: of the windows that come from clips of the target.
        fast: of the windows that take every second frame of a clip that is long enough: speed alone does not
            tell a drone from a bird, and users film at rates of their own.
        hard: of the windows in which the thing's contrast is cut (to 0.12 to 0.5) and noise is added (sd 8 to
            28 of 255).
        zoom: the picture is scaled by 1 / zoom to zoom; of wide film see `far` and `near`.
        far: of the windows of a film wider than `COMMON_PX`, in which it is scaled as far down as if it were
            so wide; were it all of them, sizes would be guessed too small at the film's own width.
        near: in the other windows of such a film it is scaled up to so much, at most as far as it might have
            been down; without it, what is near is guessed too small.
        flipped: of the windows of coloured film in which the thing is as much brighter than its surroundings
            as it was darker, or the other way round: a drone is black before the sky or shines in the sun.
        stretch: the picture is made wider by 1 / stretch to stretch, and its height as much lower.

    Raises: ValueError if no clip is long enough.
    """
    long = [clip for clip in clips if len(clip.frames) >= steps]
    if not long:
        raise ValueError(f"no clip has {steps} frames: take shorter windows")
    wanted = [clip for clip in long if clip.kind == target_class]
    rest = [clip for clip in long if clip.kind != target_class]
    pool = wanted if wanted and (not rest or rng.random() < share) else rest
    clip = pool[rng.integers(len(pool))]
    stride = 2 if rng.random() < fast and len(clip.frames) >= 2 * steps else 1
    start = int(rng.integers(len(clip.frames) - stride * (steps - 1)))
    times = list(range(start, start + stride * steps, stride))
    if rng.random() < 0.5:
        times.reverse()
    height, width = clip.frames.shape[1:3]
    wide_by = max(1.0, width / COMMON_PX)
    nearer = min(zoom * wide_by, max(zoom, near))
    smaller, larger = (zoom * wide_by, zoom) if rng.random() < far else (zoom, nearer)
    scale = math.exp(rng.uniform(-math.log(smaller), math.log(larger)))
    wider = math.exp(rng.uniform(-1, 1) * math.log(stretch))
    side = min(height, width, size / scale)
    wide, high = min(width, round(side / wider)), min(height, round(side * wider))
    left, top = _corner([clip.boxes[t] for t in times], (width, height), (wide, high), rng)
    change = _Change(rng, hard)
    coloured = clip.frames.shape[-1] > 1
    contrast = change.contrast if change.hard else 1.0
    if coloured and rng.random() < flipped:
        contrast = -contrast
    frames = np.empty((steps, size, size, 3), np.uint8)
    named = []
    for place, t in enumerate(times):
        picture = clip.frames[t]
        if contrast != 1 and clip.boxes[t]:
            picture = picture.astype(np.float32)
            for box in clip.boxes[t]:
                reduce_contrast(picture, box, contrast)
        frames[place] = change(_scaled(picture[top : top + high, left : left + wide], size), rng)
        moved = [_moved(box, (left, top), (size / wide, size / high)) for box in clip.boxes[t]]
        mirrored = (change.mirror(box, size) for box in moved)
        named.append(list(map(LabelledBox, clip.kinds_at(t), mirrored)))
    between = [slice(min(pair) + 1, max(pair) + 1) for pair in pairwise(times)]
    cuts = np.array([clip.cuts[times[0]], *(clip.cuts[gap].any() for gap in between)])
    return Window(frames, named, cuts)


def _corner(
    boxes: Sequence[Sequence[Box]],
    picture: tuple[int, int],
    piece: tuple[int, int],
    rng: np.random.Generator,
) -> tuple[int, int]:
    """Where a piece of a picture, both (width, height), begins; six times in ten it holds a box."""
    flat = [box for here in boxes for box in here]
    if flat and rng.random() < 0.6:
        centre = flat[rng.integers(len(flat))].centre
        middle = [at + part * rng.uniform(-0.45, 0.45) for at, part in zip(centre, piece, strict=True)]
    else:
        middle = [rng.uniform(0, whole) for whole in picture]
    left, top = (
        max(0, min(int(at - part / 2), whole - part))
        for at, part, whole in zip(middle, piece, picture, strict=True)
    )
    return left, top


def _scaled(picture: NDArray[np.uint8] | NDArray[np.float32], size: int) -> NDArray[np.float32]:
    import cv2

    piece = picture.astype(np.float32)
    if piece.shape[:2] != (size, size):
        way = cv2.INTER_AREA if min(piece.shape[:2]) > size else cv2.INTER_LINEAR
        piece = np.asarray(cv2.resize(piece, (size, size), interpolation=way), np.float32)
    return piece.reshape(size, size, -1)


def _blurred(picture: NDArray[np.float32], deviation: float) -> NDArray[np.float32]:
    import cv2

    return np.asarray(cv2.GaussianBlur(picture, (0, 0), deviation), np.float32).reshape(picture.shape)


def _moved(box: Box, corner: tuple[int, int], scale: tuple[float, float]) -> Box:
    (left, top), (across, down) = corner, scale
    return Box((box.x - left) * across, (box.y - top) * down, box.width * across, box.height * down)


class _Change:
    """One draw of how a window looks; the same for all its frames, but for the noise."""

    def __init__(self, rng: np.random.Generator, hard: float) -> None:
        self.hard = rng.random() < hard
        self.contrast, self.noise = rng.uniform(0.12, 0.5), rng.uniform(8, 28)
        self.gain, self.lift = rng.uniform(0.7, 1.3), rng.uniform(-30, 30)
        self.grey = rng.random() < 0.3
        self.blur = rng.uniform(0.3, 1.0) if rng.random() < 0.3 else 0.0
        self.across, self.down = rng.random() < 0.5, rng.random() < 0.2

    def __call__(self, picture: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.uint8]:
        if self.grey:
            picture = picture.mean(-1, keepdims=True)
        if self.blur:
            picture = _blurred(picture, self.blur)
        picture = (picture - 128) * np.float32(self.gain) + np.float32(128 + self.lift)
        if self.hard:
            picture = picture + rng.standard_normal(picture.shape, np.float32) * np.float32(self.noise)
        if self.across:
            picture = picture[:, ::-1]
        if self.down:
            picture = picture[::-1]
        return np.asarray(np.clip(picture + 0.5, 0, 255), np.uint8)

    def mirror(self, box: Box, size: int) -> Box:
        x = size - box.x - box.width if self.across else box.x
        y = size - box.y - box.height if self.down else box.y
        return Box(x, y, box.width, box.height)
