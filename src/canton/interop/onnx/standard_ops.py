"""Dense GRU, LSTM and RNN as ONNX's own operators.

ONNX stacks (directions, gates * hidden, ...): a GRU's gates as z, r, h, an LSTM's as i, o, f, c. Its GRU is

    h' = (1 - z) h~ + z h                                   z keeps the old: Canton's with its sign turned
    h~ = tanh(W x + (r h) R + Rb + Wb)                      linear_before_reset = 0, Canton's reset="before"
    h~ = tanh(W x + Wb + r (h R + Rb))                      linear_before_reset = 1, reset="after"

Source: github.com/onnx/onnx, docs/Operators.md, GRU, LSTM and RNN.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from canton.cells.gru import GRUCell
from canton.cells.lstm import LSTMCell
from canton.cells.rnn import RNNCell
from canton.core.cell import Cell
from canton.core.recurrent import Recurrent
from canton.interop.gate_matrices import alike, take_apart
from canton.interop.keras import turn_z
from canton.interop.onnx.graph import Graph


def has_operator(layer: Recurrent) -> bool:
    """Whether ONNX has an operator that computes what the layer's cells compute."""
    for cell in layer.cells:
        if not isinstance(cell, Cell) or getattr(cell, "projection", None) is not None:
            return False
        try:
            halves = take_apart(cell, "ONNX", peephole=True)
        except ValueError:  # another cell, layer normalisation, or a map that is no plain product
            return False
        if halves.x.ndim > 2:
            return False
    return not layer.zoneout


def are_alike(cells: list[Cell]) -> bool:
    """Whether one operator can hold the cells of both directions: it has one setting for both."""
    try:
        alike(cells, "ONNX")
    except ValueError:
        return False
    return True


def run(
    graph: Graph, cells: list[Cell], xs: str, state: list[str], integers: bool, lengths: str | None = None
) -> tuple[str, list[str]]:
    """One layer over xs (T, B, C) or integers (T, B); each state is (directions, B, hidden), lengths (B,)."""
    if integers:
        depth = graph.constant(torch.tensor([cells[0].input_size]))
        xs = graph.op("OneHot", [xs, depth, graph.constant(torch.tensor([0.0, 1.0]))])
    ways = [_arrays(cell) for cell in cells]
    w, r, b, p = (
        None if parts[0] is None else torch.stack([part for part in parts if part is not None])
        for parts in zip(*ways, strict=True)
    )
    assert w is not None
    assert r is not None
    counted = "" if lengths is None else graph.op("Cast", [lengths], {"to": 6})  # int32
    inputs = [
        xs,
        graph.constant(w),
        graph.constant(r),
        "" if b is None else graph.constant(b),
        counted,
        *state,
    ]
    if p is not None:
        inputs.append(graph.constant(p.flatten(1)))
    first = cells[0]
    attributes: dict[str, Any] = {
        "hidden_size": first.hidden_size,
        "direction": "bidirectional" if len(cells) == 2 else "forward",
    }
    if isinstance(first, GRUCell):
        kind = "GRU"
        attributes["linear_before_reset"] = int(first.reset == "after")
    elif isinstance(first, LSTMCell):
        kind = "LSTM"
    else:
        assert isinstance(first, RNNCell)
        kind = "RNN"
        attributes["activations"] = [first.nonlinearity.capitalize()] * len(cells)
    ys, *after = graph.ops(kind, inputs, 1 + len(state), attributes)
    if (
        lengths is not None
    ):  # a row of no steps keeps its state, of which onnxruntime's operators know nothing
        none = graph.op("Equal", [lengths, graph.constant(torch.tensor(0))])
        none = graph.op("Unsqueeze", [none, graph.constant([1])])
        after = [graph.op("Where", [none, old, new]) for old, new in zip(state, after, strict=True)]
    if len(cells) == 1:
        return graph.op("Squeeze", [ys, graph.constant([1])]), after
    ys = graph.op("Transpose", [ys], {"perm": [0, 2, 1, 3]})
    return graph.op("Reshape", [ys, graph.constant([0, 0, -1])]), after


def _arrays(cell: Cell) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """W, R, B (both biases joined) and P (peepholes) of one direction."""
    x, h, bias, candidate_bias = take_apart(cell, "ONNX", peephole=True)[:4]
    order = turn_z if isinstance(cell, GRUCell) else _iofc if isinstance(cell, LSTMCell) else _same
    if bias is not None:
        on_state = torch.zeros_like(bias)
        if candidate_bias is not None:
            on_state[2 * cell.hidden_size :] = candidate_bias
        bias = torch.cat([order(bias), on_state])
    peephole = None
    if isinstance(cell, LSTMCell) and cell.peephole is not None:
        i, f, o = cell.peephole.detach()
        peephole = torch.stack([i, o, f])
    return order(x), order(h), bias, peephole


def _same(t: Tensor) -> Tensor:
    return t


def _iofc(t: Tensor) -> Tensor:
    i, f, g, o = t.chunk(4)
    return torch.cat([i, o, f, g])
