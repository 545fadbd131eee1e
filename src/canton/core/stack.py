"""Layers whose arguments and results are torch.nn's: short ways to a `Recurrent` of the right cells.

``GRU(8, 16)`` for sequences of vectors, ``ConvGRU2d(8, 16, 3)`` for video; every one returns a `Recurrent`.
``GRU(8, 16, map=your_map)`` is the same for a map of your own. The first seven arguments are torch.nn's (a
convolutional layer has its kernel size third); what the others mean is told at `Recurrent` and at the cells.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch

from canton.core.cell import Cell
from canton.core.recurrent import Recurrent

Device = torch.device | str | None


def stack(
    make: Callable[[int], Cell],
    input_size: int,
    num_layers: int,
    batch_first: bool,
    dropout: float,
    bidirectional: bool,
    recurrent_dropout: float,
    zoneout: float,
    learn_initial_state: bool,
    kernel: str,
    recompute: bool,
    device: Device,
    dtype: torch.dtype | None,
) -> Recurrent:
    if num_layers < 1:
        raise ValueError(f"num_layers is {num_layers}: it is a whole number >= 1")
    directions = 2 if bidirectional else 1
    with nullcontext() if device is None else torch.device(device):
        cells = [make(input_size) for _ in range(directions)]
        between = directions * cells[0].state_sizes[0]
        cells += [make(between) for _ in range(directions * (num_layers - 1))]
        layers = Recurrent(
            cells,
            bidirectional=bidirectional,
            batch_first=batch_first,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
            zoneout=zoneout,
            learn_initial_state=learn_initial_state,
            kernel=kernel,
            recompute=recompute,
        )
    return layers.to(dtype=dtype)
