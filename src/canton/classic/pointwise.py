"""Layers without weights: Lambda, Reshape, Act, Drop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from canton.classic.can import Can
from canton.classic.training_state import in_training


class Lambda(Can):
    """A function as a Can. copy.deepcopy does not copy weights that the function refers to."""

    def __init__(self, f: Callable[..., Any]) -> None:
        super().__init__()
        self.set_function(f)


class Reshape(Can):
    """Reshape (batch, ...) to (batch, *shape)."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = list(shape)

    def forward(self, i: Tensor) -> Tensor:
        return i.reshape(i.shape[0], *self.shape)


def _selu(i: Tensor) -> Tensor:
    """Compute selu with TensorFlow's gradient at 0, 1.0507; torch's is another."""
    alpha, scale = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
    return scale * torch.where(i >= 0, i, alpha * F.elu(i))


_NONLINEARITIES: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softmax": lambda i: torch.softmax(i, -1),
    "elu": F.elu,
    "softplus": F.softplus,
    "selu": _selu,
    "swish": F.silu,
    "relu6": F.relu6,
}


class Act(Can):
    """A nonlinearity by name.

    Args:
        name: relu, tanh, sigmoid, softmax (last axis), elu, lrelu, softplus, selu, swish or relu6.
        alpha: slope of lrelu below 0.

    Raises:
        KeyError: the name is unknown.
    """

    def __init__(self, name: str, alpha: float = 0.2) -> None:
        super().__init__()
        if name != "lrelu" and name not in _NONLINEARITIES:
            raise KeyError(f"name must be one of lrelu, {', '.join(_NONLINEARITIES)}, got {name!r}")
        self.name, self.alpha = name, alpha

    def forward(self, i: Tensor) -> Tensor:
        return F.leaky_relu(i, self.alpha) if self.name == "lrelu" else _NONLINEARITIES[self.name](i)


class Drop(Can):
    """Dropout. `prob` is the probability to KEEP a number.

    Args:
        prob: probability to keep, in (0, 1].
        switch: a bool, or a tensor of one bool, instead of the training state.

    Raises:
        ValueError: prob is outside (0, 1].
    """

    def __init__(self, prob: float, switch: Any = None) -> None:
        super().__init__()
        if not 0 < prob <= 1:
            raise ValueError(f"prob must be in (0, 1], got {prob}")
        self.prob, self.switch = prob, switch

    def forward(self, i: Tensor) -> Tensor:
        on = in_training(self) if self.switch is None else bool(self.switch)
        return F.dropout(i, 1 - self.prob) if on else i
