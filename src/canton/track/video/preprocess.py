"""Frames as model input."""

from __future__ import annotations

from itertools import count

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from canton.errors import UserError, require
from canton.track.model import Architecture


def downscale_factor(width: int, max_width: int | None) -> float:
    """Return px of the source frame per px of the model's input, which is at most `max_width` px wide."""
    return max(1.0, width / max_width) if max_width else 1.0


def downscale(pixels: NDArray[np.uint8], max_width: int | None) -> NDArray[np.uint8]:
    """Resize (H, W, channels) to `max_width` px if it is wider."""
    scale = downscale_factor(pixels.shape[1], max_width)
    if scale == 1:
        return pixels
    cv2 = require("cv2", extra="track")
    size = (max_width, max(1, round(pixels.shape[0] / scale)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def to_tensor(pixels: NDArray[np.uint8], max_width: int | None = None) -> Tensor:
    """Convert (H, W, 3) uint8 to (1, 3, H, W) in [0, 1], in channels-last memory format, downscaled."""
    return torch.from_numpy(downscale(pixels, max_width)).permute(2, 0, 1)[None].float().div_(255)


def check_frame_size(architecture: Architecture, height: int, width: int) -> None:
    """Check that a frame gives at least one cell of the heat map.

    Raises:
        UserError: the frame is too small; convolutions without padding lose its borders.
    """
    cells = architecture.cells
    if min(cells(height), cells(width)) < 1:
        least = next(px for px in count(1) if cells(px) >= 1)
        raise UserError(
            f"frames must be at least {least} x {least} px for this model, got {width} x {height}"
        )
