"""Random training windows: crops of a few frames of a clip, augmented together with their boxes."""

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

REFERENCE_WIDTH = 320
"""Width in px up to which `zoom` alone sets the scale."""


class Window(NamedTuple):
    """A training window.

    Attributes:
        frames: (T, size, size, 3) uint8.
        boxes: the labelled boxes of every frame, in px of the window.
        cuts: (T,), True where a frame does not follow from the one before.
        labelled: (T,), False where nobody labelled the frame: it has no loss. None: all are labelled.
    """

    frames: NDArray[np.uint8]
    boxes: list[list[LabelledBox]]
    cuts: NDArray[np.bool_]
    labelled: NDArray[np.bool_] | None = None


def sample_window(
    clips: Sequence[CachedClip],
    rng: np.random.Generator,
    *,
    target_class: str,
    steps: int,
    size: int,
    target_share: float = 0.4,
    double_speed_share: float = 0.3,
    degraded_share: float = 0.5,
    zoom: float = 1.4,
    zoom_out_share: float = 0.5,
    max_zoom: float = 2.2,
    invert_share: float = 0.25,
    stretch: float = 1.15,
) -> Window:
    """Return a random window of `steps` frames of `size` x `size` px, mostly near a labelled object.

    It may be played backwards or at double speed, flipped, zoomed, stretched, blurred, made brighter, darker,
    grey or of lower contrast.

    Args:
        clips: source of the windows.
        rng: random number generator.
        target_class: class to detect.
        steps: frames.
        size: side in px.
        target_share: share of windows from clips of the target class.
        double_speed_share: share of windows of every second frame, among clips that are long enough. Speed
            alone does not separate a drone from a bird.
        degraded_share: share of windows with the objects' contrast multiplied by 0.12 to 0.5 and noise with a
            standard deviation of 8 to 28 of 255.
        zoom: scale range, from 1 / zoom to zoom, of footage up to `REFERENCE_WIDTH` wide.
        zoom_out_share: share of the windows of wider footage that are zoomed out, down to
            `REFERENCE_WIDTH`. If all were, the model would underestimate sizes at full width.
        max_zoom: largest zoom of the other windows of wider footage. Without it, the model would
            underestimate the sizes of near objects.
        invert_share: share of windows of colour footage in which the objects' contrast is inverted: a drone
            is dark against the sky or bright in the sun.
        stretch: range of the horizontal scale, from 1 / stretch to stretch; the vertical one is its inverse.

    Raises:
        ValueError: no clip has `steps` frames.
    """
    long = [clip for clip in clips if len(clip.frames) >= steps]
    if not long:
        raise ValueError(f"steps must be <= the frames of the longest clip, got {steps}")
    targets = [clip for clip in long if clip.class_name == target_class]
    distractors = [clip for clip in long if clip.class_name != target_class]
    pool = targets if targets and (not distractors or rng.random() < target_share) else distractors
    clip = pool[rng.integers(len(pool))]
    stride = 2 if rng.random() < double_speed_share and len(clip.frames) >= 2 * steps else 1
    start = int(rng.integers(len(clip.frames) - stride * (steps - 1)))
    indices = list(range(start, start + stride * steps, stride))
    if rng.random() < 0.5:
        indices.reverse()
    height, width = clip.frames.shape[1:3]
    relative_width = max(1.0, width / REFERENCE_WIDTH)
    largest = min(zoom * relative_width, max(zoom, max_zoom))
    zoom_out, zoom_in = (zoom * relative_width, zoom) if rng.random() < zoom_out_share else (zoom, largest)
    scale = math.exp(rng.uniform(-math.log(zoom_out), math.log(zoom_in)))
    stretched = math.exp(rng.uniform(-1, 1) * math.log(stretch))
    side = min(height, width, size / scale)
    crop_width, crop_height = min(width, round(side / stretched)), min(height, round(side * stretched))
    crop = crop_width, crop_height
    left, top = _corner([clip.boxes[t] for t in indices], (width, height), crop, rng)
    appearance = _Appearance(rng, degraded_share)
    contrast = appearance.contrast if appearance.degraded else 1.0
    if clip.frames.shape[-1] > 1 and rng.random() < invert_share:
        contrast = -contrast
    frames = np.empty((steps, size, size, 3), np.uint8)
    boxes = []
    for k, t in enumerate(indices):
        image = clip.frames[t]
        if contrast != 1 and clip.boxes[t]:
            image = image.astype(np.float32)
            for box in clip.boxes[t]:
                reduce_contrast(image, box, contrast)
        frames[k] = appearance(_resized(image[top : top + crop_height, left : left + crop_width], size), rng)
        moved = [_moved(box, (left, top), (size / crop_width, size / crop_height)) for box in clip.boxes[t]]
        flipped = (appearance.flip(box, size) for box in moved)
        boxes.append(list(map(LabelledBox, clip.classes_at(t), flipped)))
    between = [slice(min(pair) + 1, max(pair) + 1) for pair in pairwise(indices)]
    cuts = np.array([clip.cuts[indices[0]], *(clip.cuts[gap].any() for gap in between)])
    return Window(frames, boxes, cuts, None if clip.labelled is None else clip.labelled[indices])


def _corner(
    boxes: Sequence[Sequence[Box]],
    frame: tuple[int, int],
    crop: tuple[int, int],
    rng: np.random.Generator,
) -> tuple[int, int]:
    """Return the upper left corner of a random crop. With probability 0.6 it contains the centre of a box.

    Args:
        frame, crop: (width, height) in px.
    """
    flat = [box for frame_boxes in boxes for box in frame_boxes]
    if flat and rng.random() < 0.6:
        centre = flat[rng.integers(len(flat))].centre
        middle = [at + part * rng.uniform(-0.45, 0.45) for at, part in zip(centre, crop, strict=True)]
    else:
        middle = [rng.uniform(0, whole) for whole in frame]
    left, top = (
        max(0, min(int(at - part / 2), whole - part))
        for at, part, whole in zip(middle, crop, frame, strict=True)
    )
    return left, top


def _resized(image: NDArray[np.uint8] | NDArray[np.float32], size: int) -> NDArray[np.float32]:
    import cv2

    pixels = image.astype(np.float32)
    if pixels.shape[:2] != (size, size):
        method = cv2.INTER_AREA if min(pixels.shape[:2]) > size else cv2.INTER_LINEAR
        pixels = np.asarray(cv2.resize(pixels, (size, size), interpolation=method), np.float32)
    return pixels.reshape(size, size, -1)


def _blurred(image: NDArray[np.float32], deviation: float) -> NDArray[np.float32]:
    import cv2

    return np.asarray(cv2.GaussianBlur(image, (0, 0), deviation), np.float32).reshape(image.shape)


def _moved(box: Box, corner: tuple[int, int], scale: tuple[float, float]) -> Box:
    (left, top), (across, down) = corner, scale
    return Box((box.x - left) * across, (box.y - top) * down, box.width * across, box.height * down)


class _Appearance:
    """A random change of a window's appearance, the same for every frame except the noise."""

    def __init__(self, rng: np.random.Generator, degraded_share: float) -> None:
        self.degraded = rng.random() < degraded_share
        self.contrast, self.noise = rng.uniform(0.12, 0.5), rng.uniform(8, 28)
        self.gain, self.offset = rng.uniform(0.7, 1.3), rng.uniform(-30, 30)
        self.grey = rng.random() < 0.3
        self.blur = rng.uniform(0.3, 1.0) if rng.random() < 0.3 else 0.0
        self.horizontal, self.vertical = rng.random() < 0.5, rng.random() < 0.2

    def __call__(self, image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.uint8]:
        if self.grey:
            image = image.mean(-1, keepdims=True)
        if self.blur:
            image = _blurred(image, self.blur)
        image = (image - 128) * np.float32(self.gain) + np.float32(128 + self.offset)
        if self.degraded:
            image = image + rng.standard_normal(image.shape, np.float32) * np.float32(self.noise)
        if self.horizontal:
            image = image[:, ::-1]
        if self.vertical:
            image = image[::-1]
        return np.asarray(np.clip(image + 0.5, 0, 255), np.uint8)

    def flip(self, box: Box, size: int) -> Box:
        """Return the box in the flipped window."""
        x = size - box.x - box.width if self.horizontal else box.x
        y = size - box.y - box.height if self.vertical else box.y
        return Box(x, y, box.width, box.height)
