"""Learning-rate schedule: linear warmup, then cosine decay."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def warmup_cosine(progress: float, *, warmup: float, min_lr_ratio: float) -> float:
    """Return the learning rate as a fraction of its peak.

    Args:
        progress: fraction of the budget that is spent, in [0, 1].
        warmup: fraction of the budget over which the rate rises.
        min_lr_ratio: the fraction of the peak at the end.

    Source: Loshchilov & Hutter 2016, arXiv:1608.03983.
    """
    rise = min(1.0, (progress + 1e-3) / warmup) if warmup > 0 else 1.0  # not 0 at the first step
    return rise * (min_lr_ratio + (1 - min_lr_ratio) * 0.5 * (1 + math.cos(math.pi * progress)))


@contextmanager
def restore_learning_rates(optimizer: torch.optim.Optimizer) -> Iterator[list[float]]:
    """Yield the learning rate of each parameter group, and restore these rates afterwards."""
    peaks = [float(group["lr"]) for group in optimizer.param_groups]
    try:
        yield peaks
    finally:
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak
