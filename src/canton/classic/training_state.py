"""The old global switch between training and inference, which Drop and BatchNorm look at."""

from __future__ import annotations

from torch import nn

_training = True


def set_training_state(state: bool = True) -> None:
    """Turn training on or off for every Can of the process. ``can.eval()`` turns it off for one of them."""
    global _training
    _training = state


def get_training_state() -> bool:
    """Whether training is on; it is, to begin with."""
    return _training


def in_training(module: nn.Module) -> bool:
    """Whether a layer trains: neither the old switch nor torch's own (``module.eval()``) says otherwise."""
    return _training and module.training
