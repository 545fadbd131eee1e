"""Export to ONNX: every Canton layer, over a sequence or as one step with its state in and out.

A dense GRU, LSTM or RNN becomes ONNX's operator of that name, with the ``linear_before_reset`` that its reset
means (`onnx_standard`); everything else becomes a Scan over time around one step (`onnx_cells`), its input
half computed for all steps at once. Batch, time and image size are free. Files hold float32.

Dropout and recurrent dropout belong to training and are left out; zoneout mixes as in evaluation. A class of
cell of your own is refused: the file would have to hold your Python, which ONNX cannot.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from canton.core.cell import Cell
from canton.core.recurrent import Recurrent
from canton.interop.onnx import standard_ops
from canton.interop.onnx.cells import advance, axes_of, project
from canton.interop.onnx.graph import Graph, Size, written

_SPACE = {0: (), 1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}
_STATES = ("h", "c")


class Rows(NamedTuple):
    """Which steps of which rows count, by name; None where all do.

    Attributes:
        lengths: int64 (B,), see `Recurrent.forward`.
        alive: (T, B) booleans, true before a row's length.
        reset: (T, B) booleans, false where the row is no longer alive.
    """

    lengths: str | None = None
    alive: str | None = None
    reset: str | None = None


ALL_ROWS = Rows()


def export(
    layer: Recurrent,
    path: str | Path | None = None,
    *,
    integers: bool = False,
    fresh: bool = False,
    lengths: bool = False,
    reset: bool = False,
) -> Any:
    """The layer over whole sequences, as an onnx.ModelProto; also written to `path` if given.

    Inputs: x (T, B, C, *space), (B, T, ...) if the layer has batch_first, and the state h_0 (layers *
    directions, B, C, *space), for an LSTM c_0 as well. Outputs: y, and the state after, h_n (and c_n).

    Args:
        layer: any Canton layer whose maps are dense, convolutions or separable.
        path: where to write the file.
        integers: x is int64 (T, B), looked up as rows of a dense map.
        fresh: leave the state inputs out and start from zeros, or from the layer's learned first state.
        lengths: one input more, lengths, int64 (B,), as `Recurrent.forward` has it; for ONNX's own operators
            it is their sequence_lens.
        reset: one input more, reset, booleans (T, B), (B, T) if the layer has batch_first, as
            `Recurrent.forward` has it. ONNX's own operators know no restarts: every layer is a Scan then.

    Raises:
        ValueError: a cell or a map of another kind, which this module cannot translate.
        UserError: the package onnx is not installed; which extra brings it.
    """
    graph, axes = Graph(), axes_of(_cells(layer)[0])
    space, count = _SPACE[axes], len(layer.cells)
    lead = ("batch", "time") if layer.batch_first else ("time", "batch")
    xs = _input(graph, layer, (*lead,), space, integers)
    swap = [1, 0, *range(2, 2 + (0 if integers else 1 + axes))]
    if layer.batch_first:
        xs = graph.op("Transpose", [xs], {"perm": swap})
    states = _fresh(graph, layer, xs, axes) if fresh else _state_inputs(graph, layer, space)
    rows = _rows(graph, layer, xs, lead, lengths=lengths, reset=reset)
    ys, after = run(graph, layer, xs, states, integers, rows)
    if layer.batch_first:
        ys = graph.op("Transpose", [ys], {"perm": [1, 0, *range(2, 3 + axes)]})
    graph.output(ys, "y", (*lead, layer.directions * layer.state_sizes[0], *space))
    _state_outputs(graph, layer, after, count, space)
    return written(graph.model("canton"), path)


def export_step(layer: Recurrent, path: str | Path | None = None, *, integers: bool = False) -> Any:
    """One step of the layer's stream, `Recurrent.step`, as an onnx.ModelProto, also written to `path`.

    Inputs: x (B, C, *space), or int64 (B,) with `integers`, and the state h_0 (and c_0); outputs: y (B, C,
    *space), h_n (and c_n), to be given back with the next x.

    Raises:
        ValueError: a bidirectional layer, or what `export` refuses.
        UserError: the package onnx is not installed; which extra brings it.
    """
    graph = Graph()
    space = _SPACE[axes_of(_cells(layer)[0])]
    x = _input(graph, layer, ("batch",), space, integers)
    y, after = step(graph, layer, x, _state_inputs(graph, layer, space), integers)
    graph.output(y, "y", ("batch", layer.state_sizes[0], *space))
    _state_outputs(graph, layer, after, len(layer.cells), space)
    return written(graph.model("canton"), path)


def run(
    graph: Graph, layer: Recurrent, xs: str, states: list[str], integers: bool, rows: Rows = ALL_ROWS
) -> tuple[str, list[str]]:
    """Add the layer over `xs` (T, B, ...) to `graph`; outputs and states as `export` has them."""
    cells, each = _cells(layer), layer.directions
    standard = rows.reset is None and standard_ops.has_operator(layer)
    finals: list[list[str]] = [[] for _ in states]
    for first in range(0, len(cells), each):
        stage = cells[first : first + each]
        bounds = [graph.constant([k]) for k in (first, first + each, 0)]
        now = [graph.op("Slice", [s, *bounds]) for s in states]
        if standard and standard_ops.are_alike(stage):
            xs, after = standard_ops.run(graph, stage, xs, now, integers and not first, rows.lengths)
        else:
            xs, after = _scan(graph, layer, first, xs, now, integers and not first, rows)
        for final, part in zip(finals, after, strict=True):
            final.append(part)
    return xs, [_joined(graph, parts) for parts in finals]


def step(graph: Graph, layer: Recurrent, x: str, states: list[str], integers: bool) -> tuple[str, list[str]]:
    """Add one step on `x` (B, ...) to `graph`; outputs and states as `export_step` has them.

    Raises:
        ValueError: the layer is bidirectional.
    """
    if layer.directions == 2:
        raise ValueError("a bidirectional layer cannot stream: its backward half begins at the end")
    finals: list[list[str]] = [[] for _ in states]
    axis = graph.constant([0])
    for k, cell in enumerate(_cells(layer)):
        index = graph.constant(torch.tensor(k))
        now = [graph.op("Gather", [s, index]) for s in states]
        after = _advance(graph, layer, cell, project(graph, cell, x, integers and not k), now)
        x = after[0]
        for final, part in zip(finals, after, strict=True):
            final.append(graph.op("Unsqueeze", [part, axis]))
    return x, [_joined(graph, parts) for parts in finals]


def _cells(layer: Recurrent) -> list[Cell]:
    return [cell for cell in layer.cells if isinstance(cell, Cell)]


def _advance(graph: Graph, layer: Recurrent, cell: Cell, gx: str, state: list[str]) -> list[str]:
    after = advance(graph, cell, gx, state)
    if not layer.zoneout:
        return after
    old, new = (graph.constant(torch.tensor(share)) for share in (layer.zoneout, 1 - layer.zoneout))
    return [
        graph.op("Add", [graph.op("Mul", [old, s]), graph.op("Mul", [new, t])])
        for s, t in zip(state, after, strict=True)
    ]


def _scan(
    graph: Graph, layer: Recurrent, first: int, xs: str, states: list[str], integers: bool, rows: Rows
) -> tuple[str, list[str]]:
    """One layer's cells, from cell `first` on, over time; every state is (directions, B, C, *space)."""
    cells = _cells(layer)[first : first + layer.directions]
    axes = axes_of(cells[0])
    lead = graph.shape(xs, 0, 2)
    flat = graph.op("Concat", [graph.constant([-1]), graph.shape(xs, 2)], {"axis": 0})
    flat_xs = graph.op("Reshape", [xs, graph.constant([-1]) if integers else flat])
    outputs, finals = [], [list[str]() for _ in states]
    for k, cell in enumerate(cells):
        gx = project(graph, cell, flat_xs, integers)
        gx = graph.op("Reshape", [gx, graph.op("Concat", [lead, graph.shape(gx, 1)], {"axis": 0})])
        now = [graph.op("Gather", [s, graph.constant(torch.tensor(k))]) for s in states]
        reset = rows.reset if rows.reset is None or not k else _before(graph, rows.reset)
        marks = [_spread(graph, mark, axes) for mark in (rows.alive, reset) if mark is not None]
        seen = [gx, *marks]
        attributes = {
            "body": _body(graph, layer, first + k, rows),
            "num_scan_inputs": len(seen),
            "scan_input_directions": [k] * len(seen),
            "scan_output_directions": [k],
        }
        *final, ys = graph.ops("Scan", [*now, *seen], len(now) + 1, attributes)
        outputs.append(ys)
        for parts, part in zip(finals, final, strict=True):
            parts.append(graph.op("Unsqueeze", [part, graph.constant([0])]))
    ys = outputs[0] if len(outputs) == 1 else graph.op("Concat", outputs, {"axis": 2})
    return ys, [_joined(graph, parts) for parts in finals]


def _body(graph: Graph, layer: Recurrent, index: int, rows: Rows) -> Any:
    """One step of the cell `index` as `canton.core.recurrent.loop` has it, for a Scan."""
    cell, body = _cells(layer)[index], Graph(graph)
    axes = axes_of(cell)
    space: list[Size] = [None] * axes
    states = [body.input(body.name("state"), (None, size, *space)) for size in cell.state_sizes]
    gx = body.input(body.name("gx"), (None, None, *space))
    mark: list[Size] = [None, 1, *(1,) * axes]
    alive = None if rows.alive is None else body.input(body.name("alive"), mark, torch.bool)
    if rows.reset is not None:
        restart = body.input(body.name("reset"), mark, torch.bool)
        starts = [body.constant(_start(layer, index, k, axes)) for k in range(len(states))]
        states = [body.op("Where", [restart, f, s]) for f, s in zip(starts, states, strict=True)]
    after = _advance(body, layer, cell, gx, states)
    shown = after[0]
    if alive is not None:
        shown = body.op("Where", [alive, shown, body.constant(torch.tensor(0.0))])
        after = [body.op("Where", [alive, new, old]) for new, old in zip(after, states, strict=True)]
    for part, size in zip([*after, shown], [*cell.state_sizes, cell.state_sizes[0]], strict=True):
        body.output(part, body.name("after"), (None, size, *space))
    return body.body()


def _rows(
    graph: Graph, layer: Recurrent, xs: str, lead: tuple[str, str], *, lengths: bool, reset: bool
) -> Rows:
    """The inputs lengths and reset, if they are asked for, and what follows from them; xs is (T, B, ...)."""
    counted = alive = restart = None
    if lengths:
        counted = graph.input("lengths", ("batch",), torch.int64)
        steps = graph.op("Squeeze", [graph.shape(xs, 0, 1)])
        zero, one = (graph.constant(torch.tensor(n)) for n in (0, 1))
        times = graph.op("Unsqueeze", [graph.op("Range", [zero, steps, one]), graph.constant([1])])
        alive = graph.op("Less", [times, counted])
    if reset:
        restart = graph.input("reset", lead, torch.bool)
        if layer.batch_first:
            restart = graph.op("Transpose", [restart], {"perm": [1, 0]})
        if alive is not None:
            restart = graph.op("And", [restart, alive])
    return Rows(counted, alive, restart)


def _before(graph: Graph, reset: str) -> str:
    """Where a backward run restarts, see `canton.core.packing.backward_reset`."""
    one, end, axis = (graph.constant([n]) for n in (1, 2**62, 0))
    first = graph.op("Slice", [reset, axis, one, axis])
    none = graph.op("And", [first, graph.op("Not", [first])])
    return graph.op("Concat", [graph.op("Slice", [reset, one, end, axis]), none], {"axis": 0})


def _spread(graph: Graph, mark: str, axes: int) -> str:
    """(T, B) with axes of one behind, to go with (T, B, C, *space)."""
    return graph.op("Unsqueeze", [mark, graph.constant(list(range(2, 3 + axes)))])


def _joined(graph: Graph, parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else graph.op("Concat", parts, {"axis": 0})


def _input(
    graph: Graph, layer: Recurrent, lead: tuple[str, ...], space: tuple[str, ...], integers: bool
) -> str:
    if integers:
        return graph.input("x", lead, torch.int64)
    return graph.input("x", (*lead, layer.input_size, *space))


def _state_inputs(graph: Graph, layer: Recurrent, space: tuple[str, ...]) -> list[str]:
    count = len(layer.cells)
    return [
        graph.input(f"{name}_0", (count, "batch", size, *space))
        for name, size in zip(_STATES, layer.state_sizes, strict=False)
    ]


def _state_outputs(
    graph: Graph, layer: Recurrent, after: list[str], count: int, space: tuple[str, ...]
) -> None:
    for name, part, size in zip(_STATES, after, layer.state_sizes, strict=False):
        graph.output(part, f"{name}_n", (count, "batch", size, *space))


def _fresh(graph: Graph, layer: Recurrent, xs: str, axes: int) -> list[str]:
    """The first states: zeros or the learned ones, as large as the sequence wants them."""
    batch, space = graph.shape(xs, 1, 2), graph.shape(xs, 3) if axes else None
    count = len(layer.cells)
    states = []
    for k, size in enumerate(layer.state_sizes):
        start = torch.stack([_start(layer, index, k, axes) for index in range(count)])
        parts = [graph.constant([count]), batch, graph.constant([size]), *([space] if space else [])]
        states.append(graph.op("Expand", [graph.constant(start), graph.op("Concat", parts, {"axis": 0})]))
    return states


def _start(layer: Recurrent, index: int, k: int, axes: int) -> Tensor:
    """Tensor k of the state that cell `index` starts from, (1, C, 1, ...): zeros, or what was learned."""
    start = torch.zeros(layer.state_sizes[k])
    if len(layer.initial):
        start = layer.initial[index].detach().split(layer.state_sizes)[k]
    return start.view(1, -1, *(1,) * axes)
