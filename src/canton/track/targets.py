"""Training targets and loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from canton.track.boxes import LabelledBox
from canton.track.model import MAPS, Architecture

SIGMA_RATIO = 1 / 6
"""Standard deviation of the Gaussian of a box, as a share of its sides: three sigma reach the edge."""
MIN_SIGMA = 0.6
"""Smallest standard deviation, in cells."""


class Target(NamedTuple):
    """The training target of a network's maps.

    Attributes:
        heatmap: (..., 1 + distractor classes, h, w), Gaussians with a maximum of 1.
        sizes: (..., 2, h, w), logarithms of width and height in px.
        near: (..., 1, h, w), 1 at and beside the maxima, where sizes count. 0 at points without a size.
        labelled: (..., 1, 1, 1), 1 for a frame that somebody labelled, 0 for one without loss.
    """

    heatmap: Tensor
    sizes: Tensor
    near: Tensor
    labelled: Tensor


def make_target(
    frames: Sequence[Sequence[LabelledBox]],
    size: tuple[int, int],
    architecture: Architecture,
    *,
    target_class: str,
    labelled: NDArray[np.bool_] | None = None,
) -> Target:
    """Return the targets (T, ...) of a sequence of frames.

    Args:
        frames: the boxes of every frame, in px.
        size: (h, w) of the heat maps.
        architecture: the network.
        target_class: class of the first heat map.
        labelled: (T,), False for a frame without loss. None: every frame has one.

    Raises:
        ValueError: `target_class` is a distractor class of the architecture.
    """
    if target_class in architecture.distractor_classes:
        raise ValueError(f"target_class must not be one of distractor_classes, got {target_class}")
    height, width = size
    stride, offset = architecture.stride, architecture.offset
    channels = {name: k for k, name in enumerate((target_class, *architecture.distractor_classes))}
    heatmap = np.zeros((len(frames), len(channels), height, width), np.float32)
    sizes = np.zeros((len(frames), 2, height, width), np.float32)
    near = np.zeros((len(frames), 1, height, width), np.float32)
    ys = (offset + stride * np.arange(height, dtype=np.float32))[:, None]
    xs = (offset + stride * np.arange(width, dtype=np.float32))[None, :]
    for t, boxes in enumerate(frames):
        for name, box in boxes:
            cx, cy = box.centre
            row, column = round((cy - offset) / stride), round((cx - offset) / stride)
            inside = 0 <= row < height and 0 <= column < width
            if inside and box.width > 0:
                neighbours = (slice(max(0, row - 1), row + 2), slice(max(0, column - 1), column + 2))
                near[t, 0][neighbours] = 1
                sizes[t, 0][neighbours] = math.log(max(box.width, 1))
                sizes[t, 1][neighbours] = math.log(max(box.height, 1))
            if name not in channels:
                continue
            sx, sy = (max(side * SIGMA_RATIO, MIN_SIGMA * stride) for side in (box.width, box.height))
            gaussian = np.exp(-0.5 * (((xs - cx) / sx) ** 2 + ((ys - cy) / sy) ** 2))
            if inside:
                gaussian[row, column] = 1
            np.maximum(heatmap[t, channels[name]], gaussian, out=heatmap[t, channels[name]])
    known = np.ones(len(frames), np.float32) if labelled is None else labelled.astype(np.float32)
    return Target(*(torch.from_numpy(array) for array in (heatmap, sizes, near, known[:, None, None, None])))


def track_loss(
    maps: Tensor, target: Target, *, gamma: float = 1.0, distractors: float = 0.5, sizes: float = 1.0
) -> Tensor:
    """Return the focal loss of the heat maps, in nats per labelled frame, plus the error of the sizes.

    The loss is penalty-reduced near an object.

    Args:
        maps: (T, B, 3 + distractor classes, h, w).
        target: (T, B, ...).
        gamma: focal exponent; it lowers the weight of easy cells.
        distractors: weight of the distractor classes' heat maps.
        sizes: weight of the absolute error of the sizes' logarithms.

    Source: Law & Deng 2018, arXiv:1808.01244, eq. 1 (its alpha is gamma here; beta is 4).
    """
    logits = torch.cat([maps[:, :, :1], maps[:, :, MAPS:]], 2).float()
    heatmap = logits.sigmoid()
    positive = (1 - heatmap) ** gamma * F.logsigmoid(logits)
    negative = (1 - target.heatmap) ** 4 * heatmap**gamma * F.logsigmoid(-logits)
    per_cell = torch.where(target.heatmap == 1, positive, negative)
    per_class = -(target.labelled * per_cell).sum((0, 1, 3, 4))
    weights = torch.full_like(per_class, distractors)
    weights[0] = 1
    size_error = (target.labelled * target.near * (maps[:, :, 1:MAPS].float() - target.sizes).abs()).sum() / 9
    return ((per_class * weights).sum() + sizes * size_error) / target.labelled.sum().clamp(min=1)
