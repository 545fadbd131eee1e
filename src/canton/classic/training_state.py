"""The global switch between training and inference, for Drop and BatchNorm."""

from __future__ import annotations

from torch import nn

_training = True


def set_training_state(state: bool = True) -> None:
    """Turn training on or off for all Cans of the process. ``can.eval()`` turns it off for one."""
    global _training
    _training = state


def get_training_state() -> bool:
    """Return whether training is on (default: on)."""
    return _training


def in_training(module: nn.Module) -> bool:
    """Return whether a layer is in training: both this switch and torch's ``module.training`` are on."""
    return _training and module.training
