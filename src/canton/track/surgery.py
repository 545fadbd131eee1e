"""A trained tracking model with an early memory added, which at first changes nothing (Chen et al. 2016,
arXiv:1511.05641).
"""

from __future__ import annotations

from dataclasses import replace

from canton.errors import UserError
from canton.track.model import TrackModel


def add_early_memory(model: TrackModel, channels: int) -> TrackModel:
    """A new model that gives what `model` gives, and has an early memory for training to make use of: the
    stem's second block gives no weight yet to its `channels`.

    Raises: UserError if it has one already, or no second block.
    """
    small = model.architecture
    if small.early:
        raise UserError(f"early is {small.early} already: an early memory is added where there is none")
    if len(small.stem) < 2:
        raise UserError(f"stem has {len(small.stem)} block: an early memory goes between the first two")
    large = TrackModel(replace(small, early=channels))
    weights = large.state_dict()
    for name, weight in model.state_dict().items():
        if name == "stem.1.conv.weight":
            weights[name].zero_()[:, : weight.shape[1]] = weight
        else:
            weights[name] = weight
    large.load_state_dict(weights)
    return large
