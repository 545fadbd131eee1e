"""TensorFlow's padding, "SAME" and "VALID", and its image layout NHWC."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def check_padding(padding: str) -> str:
    """Return `padding`.

    Raises:
        ValueError: it is neither "SAME" nor "VALID".
    """
    if padding not in ("SAME", "VALID"):
        raise ValueError(f"padding must be 'SAME' or 'VALID', got {padding!r}")
    return padding


def pad_sizes(size: int, window: int, stride: int) -> tuple[int, int]:
    """Return the padding before and after an axis, the odd pixel after, for ceil(size / stride) outputs."""
    total = max((-(-size // stride) - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


def to_nchw(i: Tensor) -> Tensor:
    """Return a view (N, C, H, W). Its memory format is channels_last, which torch's convolutions take."""
    return i.permute(0, 3, 1, 2)


def to_nhwc(i: Tensor) -> Tensor:
    """Return a view (N, H, W, C)."""
    return i.permute(0, 2, 3, 1)


def pad(x: Tensor, window: int, stride: int, padding: str, value: float = 0.0) -> Tensor:
    """Return an image (N, C, H, W) padded as TensorFlow does for this window and stride."""
    if padding == "VALID":
        return x
    top, bottom = pad_sizes(x.shape[2], window, stride)
    left, right = pad_sizes(x.shape[3], window, stride)
    if not (top or bottom or left or right):
        return x
    return F.pad(x, (left, right, top, bottom), value=value)
