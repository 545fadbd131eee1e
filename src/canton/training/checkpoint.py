"""What a run needs to continue."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Checkpoint:
    """Everything `fit` needs to go on, besides the model's own weights: tensors by name, and two numbers."""

    tensors: dict[str, Tensor]
    step: int
    seconds: float
