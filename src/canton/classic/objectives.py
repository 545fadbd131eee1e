"""Losses and accuracies.

`pred` is probabilities, or logits where it says so; `gt` is the target, of the same shape.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

eps = 1e-8


def loge(i: Tensor) -> Tensor:
    """Return log(i + 1e-8)."""
    return torch.log(i + eps)


def one_hot_accuracy(pred: Tensor, gt: Tensor) -> Tensor:
    """Return the share of rows with the same argmax as gt's.

    As in the original it takes the argmax over axis 1, which is the last one only for (batch, classes).
    """
    return (pred.argmax(1) == gt.argmax(1)).to(pred.dtype).mean()


def class_accuracy(pred: Tensor, lbl: Tensor) -> Tensor:
    """Return the share of rows of `pred` (batch, classes) whose argmax is `lbl` (batch,)."""
    return (pred.argmax(1) == lbl).to(pred.dtype).mean()


def softmax_cross_entropy(pred: Tensor, gt: Tensor) -> Tensor:
    """Return nats per row (...), from logits (..., classes). gt gets no gradient."""
    return -(gt.detach() * torch.log_softmax(pred, -1)).sum(-1)


def mean_softmax_cross_entropy(pred: Tensor, gt: Tensor) -> Tensor:
    """Return the mean of `softmax_cross_entropy`."""
    return softmax_cross_entropy(pred, gt).mean()


def cross_entropy_loss(pred: Tensor, gt: Tensor) -> Tensor:
    """Return the mean nats per row, from probabilities (..., classes)."""
    return -(loge(pred) * gt).sum(-1).mean()


def binary_cross_entropy_loss(pred: Tensor, gt: Tensor, l: float = 1.0) -> Tensor:  # noqa: E741  # its old name
    """Return the mean nats per number, from probabilities. The negative class is weighted by `l`."""
    return -(loge(pred) * gt + l * loge(1.0 - pred) * (1.0 - gt)).mean()


def sigmoid_cross_entropy_loss(pred: Tensor, gt: Tensor) -> Tensor:
    """Return nats per number, from logits."""
    return F.binary_cross_entropy_with_logits(pred, gt, reduction="none")


def mean_sigmoid_cross_entropy_loss(pred: Tensor, gt: Tensor) -> Tensor:
    """Return the mean of `sigmoid_cross_entropy_loss`."""
    return sigmoid_cross_entropy_loss(pred, gt).mean()
