"""Boxes between the key frames of an object."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np

from canton.errors import UserError
from canton.track.boxes import Box
from canton.track.data.formats.labels import ALL_FRAMES, ClipLabels, Label

METHODS = ("linear", "quadratic")


def interpolate(clip: ClipLabels, method: str, *, max_gap: int = 30) -> ClipLabels:
    """Return the clip with a box in every frame between two key frames of an object.

    Labels without a track number are one object if no frame has two of them.

    Args:
        clip: the labels. Its frames then count as labelled.
        method: linear, or quadratic: a parabola through the key frame before or after the gap too.
        max_gap: longest distance of two key frames, in frames, that is filled.

    Raises:
        UserError: the method is unknown, or objects cannot be told apart.
    """
    if method not in METHODS:
        raise UserError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    objects: dict[int, list[Label]] = {}
    for label in clip.labels:
        objects.setdefault(label.track, []).append(label)
    labels = []
    for number, keys in objects.items():
        frames = [label.frame for label in keys]
        if len(set(frames)) < len(frames):
            twice = next(label for label, after in pairwise(keys) if label.frame == after.frame)
            raise UserError(
                f"{twice.where or clip.name}: object {number} of {clip.name} has two boxes in frame "
                f"{twice.frame}: interpolation needs a track number per object"
            )
        labels += list(_fill(keys, method, max_gap))
    return ClipLabels.of(clip.name, labels, clip.modality)._replace(
        class_name=clip.class_name, split=clip.split, columns=clip.columns, labelled=ALL_FRAMES
    )


def _fill(keys: list[Label], method: str, max_gap: int) -> Iterable[Label]:
    frames = np.array([label.frame for label in keys], float)
    boxes = np.array([(*label.box.centre, label.box.width, label.box.height) for label in keys])
    for k, label in enumerate(keys):
        yield label
        if k + 1 == len(keys) or not 1 < keys[k + 1].frame - label.frame <= max_gap:
            continue
        third = k - 1 if k > 0 else k + 2
        points = [k, k + 1]
        if method == "quadratic" and 0 <= third < len(keys) and abs(frames[third] - frames[k]) <= 2 * max_gap:
            points.append(third)
        for frame in range(label.frame + 1, keys[k + 1].frame):
            weights = _lagrange(frames[points], frame)
            x, y, width, height = (float(value) for value in weights @ boxes[points])
            low = np.minimum(boxes[k], boxes[k + 1])  # a parabola of sizes may fall below 0
            box = Box.from_centre(x, y, max(width, float(low[2])), max(height, float(low[3])))
            yield Label(frame, box, label.track, label.class_name, label.where)


def _lagrange(knots: np.ndarray, at: float) -> np.ndarray:
    """Return the weights of the values at `knots` in the polynomial through them, at `at`."""
    return np.array(
        [
            np.prod([(at - other) / (knot - other) for j, other in enumerate(knots) if j != i])
            for i, knot in enumerate(knots)
        ]
    )
