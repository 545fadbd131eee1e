"""Frames of a film as a network takes them: no wider than it learned from, and not too small."""

from __future__ import annotations

from itertools import count

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from canton.errors import UserError, require
from canton.track.model import Architecture


def shrink(width: int, most: int | None) -> float:
    """How many px of a frame of `width` px make one px of the network's, which sees at most `most`."""
    return max(1.0, width / most) if most else 1.0


def narrowed(pixels: NDArray[np.uint8], width: int | None) -> NDArray[np.uint8]:
    """(H, W, channels), scaled down to `width` px if it is wider."""
    scale = shrink(pixels.shape[1], width)
    if scale == 1:
        return pixels
    cv2 = require("cv2", extra="track")
    size = (width, max(1, round(pixels.shape[0] / scale)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def to_picture(pixels: NDArray[np.uint8], width: int | None = None) -> Tensor:
    """(H, W, 3) of uint8 as the (1, 3, H, W) in [0, 1] that a network takes, at most `width` px wide; its
    channels lie innermost.
    """
    return torch.from_numpy(narrowed(pixels, width)).permute(2, 0, 1)[None].float().div_(255)


def check_size(architecture: Architecture, height: int, width: int) -> None:
    """Convolutions that lose the borders may leave nothing of a small picture.

    Raises: UserError if they do.
    """
    cells = architecture.cells
    if min(cells(height), cells(width)) < 1:
        least = next(px for px in count(1) if cells(px) >= 1)
        raise UserError(
            f"pictures of {width} x {height} px are too small for this model: it needs {least} x {least}"
        )
