"""What a tracking model should have said, and how far from it it was."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from canton.track.boxes import LabelledBox
from canton.track.model import MAPS, Architecture

SPOT = 1 / 6
"""Standard deviation of the soft spot, as a share of the box: its three sigma reach the box's edge."""
LEAST_SPOT = 0.6
"""And at least so many cells."""


class Target(NamedTuple):
    """heat: (..., 1 + others, h, w), soft spots whose summit is 1; sizes: (..., 2, h, w), logarithms of
    width and height in px; near: (..., 1, h, w), 1 where sizes count, at and beside the summits.
    """

    heat: Tensor
    sizes: Tensor
    near: Tensor


def make_target(
    frames: Sequence[Sequence[LabelledBox]],
    size: tuple[int, int],
    architecture: Architecture,
    *,
    target_class: str,
) -> Target:
    """The targets (T, ...) of a sequence of frames whose heat maps are of `size` (h, w).

    Raises: ValueError if `target_class` is one of the architecture's others too.
    """
    if target_class in architecture.distractor_classes:
        raise ValueError(f"target_class must not be one of distractor_classes, got {target_class}")
    height, width = size
    stride, offset = architecture.stride, architecture.offset
    kinds = {target_class: 0, **{kind: k + 1 for k, kind in enumerate(architecture.distractor_classes)}}
    heat = np.zeros((len(frames), len(kinds), height, width), np.float32)
    sizes = np.zeros((len(frames), 2, height, width), np.float32)
    near = np.zeros((len(frames), 1, height, width), np.float32)
    ys = (offset + stride * np.arange(height, dtype=np.float32))[:, None]
    xs = (offset + stride * np.arange(width, dtype=np.float32))[None, :]
    for t, named in enumerate(frames):
        for kind, box in named:
            cx, cy = box.centre
            row, column = round((cy - offset) / stride), round((cx - offset) / stride)
            inside = 0 <= row < height and 0 <= column < width
            if inside:
                around = (slice(max(0, row - 1), row + 2), slice(max(0, column - 1), column + 2))
                near[t, 0][around] = 1
                sizes[t, 0][around] = math.log(max(box.width, 1))
                sizes[t, 1][around] = math.log(max(box.height, 1))
            if kind not in kinds:
                continue
            sx, sy = (max(side * SPOT, LEAST_SPOT * stride) for side in (box.width, box.height))
            spot = np.exp(-0.5 * (((xs - cx) / sx) ** 2 + ((ys - cy) / sy) ** 2))
            if inside:
                spot[row, column] = 1
            np.maximum(heat[t, kinds[kind]], spot, out=heat[t, kinds[kind]])
    return Target(*(torch.from_numpy(array) for array in (heat, sizes, near)))


def track_loss(
    maps: Tensor, target: Target, *, focus: float = 1.0, others: float = 0.5, sizes: float = 1.0
) -> Tensor:
    """Penalty-reduced focal loss of the heat, in nats a frame, and the error of the sizes.

    maps: (T, B, 3 + others, h, w). focus: the exponent gamma that keeps easy cells from outvoting the rest.
    others: weight of the heat maps of the distractors. sizes: weight of |error of the log size|.

    Source: Law & Deng 2018, arXiv:1808.01244, eq. 1 (there alpha, here focus; beta is 4 as there).
    """
    logits = torch.cat([maps[:, :, :1], maps[:, :, MAPS:]], 2).float()
    heat = logits.sigmoid()
    summit = target.heat == 1
    hit = (1 - heat) ** focus * F.logsigmoid(logits)
    stray = (1 - target.heat) ** 4 * heat**focus * F.logsigmoid(-logits)
    each = -torch.where(summit, hit, stray).sum((0, 1, 3, 4))
    weights = torch.full_like(each, others)
    weights[0] = 1
    wrong = (target.near * (maps[:, :, 1:MAPS].float() - target.sizes).abs()).sum() / 9
    return ((each * weights).sum() + sizes * wrong) / (maps.shape[0] * maps.shape[1])
