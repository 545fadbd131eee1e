"""TensorFlow's padding, "SAME" and "VALID", and its image layout (NHWC) as against torch's (NCHW)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def check_padding(padding: str) -> str:
    """`padding` if it is "SAME" or "VALID".

    Raises:
        ValueError: it is not.
    """
    if padding not in ("SAME", "VALID"):
        raise ValueError(f"padding is {padding!r}: it is 'SAME' or 'VALID'")
    return padding


def before_and_after(size: int, window: int, stride: int) -> tuple[int, int]:
    """Pixels of padding before and after an axis for ceil(size / stride) outputs; the odd one goes after."""
    total = max((-(-size // stride) - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


def to_nchw(i: Tensor) -> Tensor:
    """A view in torch's layout: of channels_last memory, which its convolutions take as it is."""
    return i.permute(0, 3, 1, 2)


def to_nhwc(i: Tensor) -> Tensor:
    """The view back."""
    return i.permute(0, 2, 3, 1)


def padded(x: Tensor, window: int, stride: int, padding: str, value: float = 0.0) -> Tensor:
    """An image in torch's layout, padded so that a window on it sees what TensorFlow's sees."""
    if padding == "VALID":
        return x
    top, bottom = before_and_after(x.shape[2], window, stride)
    left, right = before_and_after(x.shape[3], window, stride)
    if not (top or bottom or left or right):
        return x
    return F.pad(x, (left, right, top, bottom), value=value)
