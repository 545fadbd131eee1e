"""State of an unfinished run."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Checkpoint:
    """The state that `fit` needs to resume, besides the model's weights.

    tensors: optimizer state, carried recurrent state and weight average, by name. step: steps done. seconds:
    training time so far.
    """

    tensors: dict[str, Tensor]
    step: int
    seconds: float
