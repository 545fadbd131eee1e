"""Adding an early ConvGRU to a trained network without changing its output (Chen et al. 2016,
arXiv:1511.05641).
"""

from __future__ import annotations

from dataclasses import replace

from canton.errors import UserError
from canton.track.model import TrackModel


def add_early_memory(model: TrackModel, channels: int) -> TrackModel:
    """Return a network with the same output as `model` and an early ConvGRU that training can use.

    The second block of the stem starts with weights of 0 for the new channels.

    Args:
        model: a network without an early ConvGRU.
        channels: of the new ConvGRU.

    Raises:
        UserError: the network has one already, or its stem has no second block.
    """
    architecture = model.architecture
    if architecture.early:
        raise UserError(f"early must be 0 in the model to add an early memory, got {architecture.early}")
    if len(architecture.stem) < 2:
        raise UserError(f"stem must have >= 2 blocks for an early memory, got {len(architecture.stem)}")
    large = TrackModel(replace(architecture, early=channels))
    weights = large.state_dict()
    for name, weight in model.state_dict().items():
        if name == "stem.1.conv.weight":
            weights[name].zero_()[:, : weight.shape[1]] = weight
        else:
            weights[name] = weight
    large.load_state_dict(weights)
    return large
