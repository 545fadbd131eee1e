"""All cells and all maps. Add a new one here, and every test runs it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from canton import Cell, GRUCell, LSTMCell, MGUCell, MinGRUCell, Recurrent, RNNCell, SLSTMCell
from canton import maps as m
from canton.maps import Map

sys.path.append(str(Path(__file__).resolve().parents[1] / "examples"))
from graph_map import graph

C_IN, HIDDEN, PROJ = 2, 4, 2  # two groups divide each
STEPS, BATCH = 5, 3

MakeCell = Callable[[int, Map], Cell]
"""Function that makes a cell from the number of input channels and a map."""

CELLS: dict[str, MakeCell] = {
    "rnn": lambda c, a: RNNCell(c, HIDDEN, map=a),
    "rnn-relu": lambda c, a: RNNCell(c, HIDDEN, nonlinearity="relu", map=a),
    "rnn-norm": lambda c, a: RNNCell(c, HIDDEN, map=a, layer_norm=True),
    "gru": lambda c, a: GRUCell(c, HIDDEN, map=a),
    "gru-nobias": lambda c, a: GRUCell(c, HIDDEN, bias=False, map=a),
    "gru-norm": lambda c, a: GRUCell(c, HIDDEN, map=a, layer_norm=True),
    "gru-after": lambda c, a: GRUCell(c, HIDDEN, reset="after", map=a),
    "gru-after-norm": lambda c, a: GRUCell(c, HIDDEN, reset="after", map=a, layer_norm=True),
    "mgu": lambda c, a: MGUCell(c, HIDDEN, map=a),
    "mgu-norm": lambda c, a: MGUCell(c, HIDDEN, map=a, layer_norm=True),
    "mgu-gru2": lambda c, a: MGUCell(c, HIDDEN, gate_input=False, reset=False, map=a),
    "mingru": lambda c, a: MinGRUCell(c, HIDDEN, map=a),
    "lstm": lambda c, a: LSTMCell(c, HIDDEN, map=a),
    "lstm-norm": lambda c, a: LSTMCell(c, HIDDEN, map=a, layer_norm=True),
    "lstm-peephole": lambda c, a: LSTMCell(c, HIDDEN, peephole=True, map=a),
    "lstm-proj": lambda c, a: LSTMCell(c, HIDDEN, proj_size=PROJ, map=a),
    "slstm": lambda c, a: SLSTMCell(c, HIDDEN, map=a),
    "slstm-norm": lambda c, a: SLSTMCell(c, HIDDEN, map=a, layer_norm=True),
    "lstm-all": lambda c, a: LSTMCell(c, HIDDEN, proj_size=PROJ, peephole=True, map=a, layer_norm=True),
}


STATE_RANGES: dict[type[Cell], tuple[tuple[float, float], ...]] = {
    SLSTMCell: ((-1.0, 1.0), (-1.0, 1.0), (1.0, 2.0), (-1.0, 1.0)),  # n > 0
}
"""The states that a cell may start from: a range for each tensor, (-1, 1) for cells not listed."""


class Place(NamedTuple):
    """A map and the shape of its space."""

    map: Map
    space: tuple[int, ...]


RING = torch.eye(6, dtype=torch.float64).roll(1, 0) + torch.eye(6, dtype=torch.float64).roll(-1, 0)

MAPS: dict[str, Place] = {
    "dense": Place(m.dense, ()),
    "conv1d-even-dilated": Place(m.conv1d(4, dilation=2), (7,)),
    "conv2d": Place(m.conv2d(3), (4, 3)),
    "conv2d-1x5": Place(m.conv2d((1, 5)), (3, 6)),
    "conv2d-even": Place(m.conv2d((2, 4)), (3, 5)),
    "conv2d-groups": Place(m.conv2d(3, groups=2), (3, 4)),
    "conv2d-circular-even-groups": Place(m.conv2d((2, 3), groups=2, padding_mode="circular"), (4, 3)),
    "conv3d": Place(m.conv3d((3, 2, 1)), (3, 2, 2)),
    "separable2d": Place(m.separable2d(3), (3, 4)),
    "graph": Place(graph(RING), (6,)),
}

CIRCULAR: dict[str, Place] = {
    "conv1d": Place(m.conv1d(3, dilation=2, padding_mode="circular"), (5,)),
    "conv2d": Place(m.conv2d(3, padding_mode="circular"), (4, 5)),
    "conv2d-even-groups": MAPS["conv2d-circular-even-groups"],
    "conv3d": Place(m.conv3d((3, 2, 1), padding_mode="circular"), (3, 2, 2)),
    "separable2d": Place(m.separable2d((3, 2), padding_mode="circular"), (3, 4)),
    "graph": MAPS["graph"],  # a ring graph is invariant to shifts
}

# A cell and a map meet in the shapes and groups of their channels only. Therefore every cell runs over two
# maps, and every map with three cells. kernel="auto" runs the cells with kernels over three different maps;
# the tests of the kernels compare them with the loop over many more.
WIDE = ("dense", "conv2d-circular-even-groups")
FAST = ("dense", "conv1d-even-dilated", "conv2d-circular-even-groups")
NARROW = ("gru", "gru-after-norm", "lstm-all")


def pairs(places: Iterable[str]) -> list[tuple[str, str]]:
    """Return every cell with the `WIDE` maps and the `NARROW` cells with all `places`."""
    places = list(places)
    wide = [place for place in places if place in WIDE] or places[:2]
    return [(cell, place) for cell in CELLS for place in places if place in wide or cell in NARROW]


RUNS = [("loop", cell, place) for cell, place in pairs(MAPS)]
RUNS += [("auto", cell, place) for cell in CELLS if not cell.endswith(("norm", "all")) for place in FAST]

every_run = pytest.mark.parametrize(
    ("kernel", "cell", "place"),
    [pytest.param(kernel, cell, MAPS[place], id=f"{cell}-{place}-{kernel}") for kernel, cell, place in RUNS],
)
"""Decorator: run a test for every cell and every map."""


def shake_(module: nn.Module) -> None:
    """Draw all parameters at random, so that no bias is 0 and no gain is 1."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(-0.7, 0.7)


def layer(
    cell: str,
    place: Place,
    *,
    kernel: str = "loop",
    layers: int = 1,
    bidirectional: bool = False,
    learn_initial_state: bool = False,
    recurrent_dropout: float = 0.0,
    zoneout: float = 0.0,
) -> Recurrent:
    """Return a float64 layer of the named cell with random parameters."""
    directions = 2 if bidirectional else 1
    cells = [CELLS[cell](C_IN, place.map) for _ in range(directions)]
    between = directions * cells[0].state_sizes[0]
    cells += [CELLS[cell](between, place.map) for _ in range(directions * (layers - 1))]
    rnn = Recurrent(
        cells,
        bidirectional=bidirectional,
        learn_initial_state=learn_initial_state,
        recurrent_dropout=recurrent_dropout,
        zoneout=zoneout,
        kernel=kernel,
    ).double()
    shake_(rnn)
    return rnn


def inputs(place: Place, *, steps: int = STEPS, batch: int = BATCH) -> Tensor:
    """Return a random sequence (steps, batch, C_IN, *space)."""
    return torch.randn(steps, batch, C_IN, *place.space, dtype=torch.float64)


def state_of(rnn: Recurrent, place: Place, *, batch: int = BATCH) -> tuple[Tensor, ...]:
    """Return a random state, always as a tuple."""
    lead = (len(rnn.cells), batch)
    shapes = [(*lead, n, *place.space) for n in rnn.state_sizes]
    return random_state(rnn.cells[0], shapes)


def random_state(cell: Cell, shapes: list[tuple[int, ...]]) -> tuple[Tensor, ...]:
    """Return a random state with one tensor of each shape, uniform in the cell's `STATE_RANGES`."""
    ranges = STATE_RANGES.get(type(cell), ((-1.0, 1.0),) * len(shapes))
    return tuple(
        torch.empty(shape, dtype=torch.float64).uniform_(*limits)
        for shape, limits in zip(shapes, ranges, strict=True)
    )


def given(state: tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
    """Return the state as a layer takes it: the tensor if there is one, else the tuple."""
    return state[0] if len(state) == 1 else state


def parts(state: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return the state as a tuple."""
    return (state,) if isinstance(state, Tensor) else state


def rows(state: tuple[Tensor, ...], which: slice) -> tuple[Tensor, ...]:
    """Return some rows of the batch."""
    return tuple(s[:, which] for s in state)
