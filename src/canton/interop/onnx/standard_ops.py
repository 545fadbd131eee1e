"""Dense GRU, LSTM and RNN as ONNX's own operators.

ONNX stacks weights as (directions, gates * hidden, ...), a GRU's gates as z, r, h, an LSTM's as i, o, f, c.
Its GRU is

    h' = (1 - z) h~ + z h                  z weights the old value: Canton's, negated
    h~ = tanh(W x + (r h) R + Rb + Wb)     linear_before_reset = 0, Canton's reset="before"
    h~ = tanh(W x + Wb + r (h R + Rb))     linear_before_reset = 1, reset="after"

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
from canton.interop.gate_matrices import check_same_kind, gate_matrices, negate_update_gate
from canton.interop.onnx.graph import Graph


def has_operator(layer: Recurrent) -> bool:
    """Return whether ONNX has an operator that computes what the layer's cells compute."""
    for cell in layer.cells:
        if not isinstance(cell, Cell) or getattr(cell, "projection", None) is not None:
            return False
        try:
            matrices = gate_matrices(cell, "ONNX", peephole=True)
        except ValueError:
            return False
        if matrices.input.ndim > 2:
            return False
    return not layer.zoneout


def are_same_kind(cells: list[Cell]) -> bool:
    """Return whether one operator can compute both cells: it has one setting for both directions."""
    try:
        check_same_kind(cells, "ONNX")
    except ValueError:
        return False
    return True


def add_operator(
    graph: Graph, cells: list[Cell], xs: str, state: list[str], integers: bool, lengths: str | None = None
) -> tuple[str, list[str]]:
    """Add one layer over xs (T, B, C), or integers (T, B); states are (directions, B, hidden)."""
    if integers:
        depth = graph.constant(torch.tensor([cells[0].input_size]))
        xs = graph.op("OneHot", [xs, depth, graph.constant(torch.tensor([0.0, 1.0]))])
    directions = [_arrays(cell) for cell in cells]
    w, r, b, p = (
        None if parts[0] is None else torch.stack([part for part in parts if part is not None])
        for parts in zip(*directions, strict=True)
    )
    assert w is not None
    assert r is not None
    sequence_lens = "" if lengths is None else graph.op("Cast", [lengths], {"to": 6})  # int32
    inputs = [
        xs,
        graph.constant(w),
        graph.constant(r),
        "" if b is None else graph.constant(b),
        sequence_lens,
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
    if lengths is not None:  # a row of length 0 keeps its state; onnxruntime returns zeros
        is_empty = graph.op("Equal", [lengths, graph.constant(torch.tensor(0))])
        is_empty = graph.op("Unsqueeze", [is_empty, graph.constant([1])])
        after = [graph.op("Where", [is_empty, old, new]) for old, new in zip(state, after, strict=True)]
    if len(cells) == 1:
        return graph.op("Squeeze", [ys, graph.constant([1])]), after
    ys = graph.op("Transpose", [ys], {"perm": [0, 2, 1, 3]})
    return graph.op("Reshape", [ys, graph.constant([0, 0, -1])]), after


def _arrays(cell: Cell) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Return W, R, B (both biases) and P (peepholes) of one direction."""
    x, h, bias, candidate_bias = gate_matrices(cell, "ONNX", peephole=True)[:4]
    if isinstance(cell, GRUCell):
        x, h, bias = (
            negate_update_gate(x),
            negate_update_gate(h),
            None if bias is None else negate_update_gate(bias),
        )
    elif isinstance(cell, LSTMCell):
        x, h, bias = _ifgo_to_iofg(x), _ifgo_to_iofg(h), None if bias is None else _ifgo_to_iofg(bias)
    if bias is not None:
        hidden_bias = torch.zeros_like(bias)
        if candidate_bias is not None:
            hidden_bias[2 * cell.hidden_size :] = candidate_bias
        bias = torch.cat([bias, hidden_bias])
    peephole = None
    if isinstance(cell, LSTMCell) and cell.peephole is not None:
        i, f, o = cell.peephole.detach()
        peephole = torch.stack([i, o, f])
    return x, h, bias, peephole


def _ifgo_to_iofg(t: Tensor) -> Tensor:
    i, f, g, o = t.chunk(4)
    return torch.cat([i, o, f, g])
