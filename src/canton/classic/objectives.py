"""What the old models were trained to make small, and how often they were right.

`pred` is probabilities or, where it says so, logits; `gt` is the truth, of the same shape.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

eps = 1e-8


def loge(i: Tensor) -> Tensor:
    """log(i + 1e-8)."""
    return torch.log(i + eps)


def one_hot_accuracy(pred: Tensor, gt: Tensor) -> Tensor:
    """The share of rows whose largest number stands where gt's does; of equal numbers the first counts.

    As in the original it looks along axis 1, which is the last one only for (batch, classes).
    """
    return (pred.argmax(1) == gt.argmax(1)).to(pred.dtype).mean()


def class_accuracy(pred: Tensor, lbl: Tensor) -> Tensor:
    """The share of rows of `pred` (batch, classes) whose largest number stands at `lbl` (batch,)."""
    return (pred.argmax(1) == lbl).to(pred.dtype).mean()


def softmax_cross_entropy(pred: Tensor, gt: Tensor) -> Tensor:
    """Nats per row, from logits (..., classes) to (...). gt gets no gradient."""
    return -(gt.detach() * torch.log_softmax(pred, -1)).sum(-1)


def mean_softmax_cross_entropy(pred: Tensor, gt: Tensor) -> Tensor:
    """The mean of `softmax_cross_entropy`."""
    return softmax_cross_entropy(pred, gt).mean()


def cross_entropy_loss(pred: Tensor, gt: Tensor) -> Tensor:
    """Mean nats per row, from probabilities (..., classes)."""
    return -(loge(pred) * gt).sum(-1).mean()


def binary_cross_entropy_loss(pred: Tensor, gt: Tensor, l: float = 1.0) -> Tensor:  # noqa: E741  # its old name
    """Mean nats per number, from probabilities of yes; a false yes weighs `l` times as much as a false no."""
    return -(loge(pred) * gt + l * loge(1.0 - pred) * (1.0 - gt)).mean()


def sigmoid_cross_entropy_loss(pred: Tensor, gt: Tensor) -> Tensor:
    """Nats per number, from logits; not averaged."""
    return F.binary_cross_entropy_with_logits(pred, gt, reduction="none")


def mean_sigmoid_cross_entropy_loss(pred: Tensor, gt: Tensor) -> Tensor:
    """The mean of `sigmoid_cross_entropy_loss`."""
    return sigmoid_cross_entropy_loss(pred, gt).mean()
