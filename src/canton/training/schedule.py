"""The learning rate over a run: up in a straight line, down along half a cosine, and back where it was."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def schedule(spent: float, *, warm_up: float, floor: float) -> float:
    """The share of the peak learning rate to use when `spent`, in [0, 1], of the budget is gone."""
    rising = min(1.0, (spent + 1e-3) / warm_up) if warm_up > 0 else 1.0  # the first step already moves
    return rising * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * spent)))


@contextmanager
def peaks_of(optimizer: torch.optim.Optimizer) -> Iterator[list[float]]:
    """The rate of each of its groups, which it has again after the block: the next run has the same peaks."""
    peaks = [float(group["lr"]) for group in optimizer.param_groups]
    try:
        yield peaks
    finally:
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak
