"""Export of Canton layers to ONNX: over a sequence, or one step with the state as input and output.

A dense GRU, LSTM or RNN becomes ONNX's operator of that name (`standard_ops`). Everything else becomes a Scan
over time around one step (`cells`); its input half is computed for all steps at once. Batch, time and image
size stay free. Files contain float32.

Dropout and recurrent dropout are left out, and zoneout mixes as in evaluation. A custom cell class cannot be
exported: an ONNX file cannot contain its Python code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from canton.core.cell import Cell
from canton.core.recurrent import Recurrent
from canton.interop.onnx import standard_ops
from canton.interop.onnx.cells import advance, project, spatial_dims
from canton.interop.onnx.graph import Graph, Size, save_model

_SPACE = {0: (), 1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}
_STATES = ("h", "c")


class Masks(NamedTuple):
    """The names of the graph values that mark valid steps and resets; None if there is no such input.

    Attributes:
        lengths: int64 (B,), see `Recurrent.forward`.
        valid: (T, B) booleans, true before the row's length.
        reset: (T, B) booleans, false from the row's length on.
    """

    lengths: str | None = None
    valid: str | None = None
    reset: str | None = None


NO_MASKS = Masks()


def export(
    layer: Recurrent,
    path: str | Path | None = None,
    *,
    integers: bool = False,
    state_inputs: bool = True,
    lengths: bool = False,
    reset: bool = False,
) -> Any:
    """Export a layer that runs over sequences.

    Inputs: x (T, B, C, *space), or (B, T, ...) with batch_first, and the state h_0 (layers * directions, B,
    C, *space), for an LSTM c_0 as well. Outputs: y, and the last state h_n (and c_n).

    Args:
        layer: any Canton layer whose maps are dense, convolutions or separable.
        path: the file to write (default: none).
        integers: x is int64 (T, B), for a dense map.
        state_inputs: False: no inputs h_0 and c_0; start from zeros or from the learned state.
        lengths: add an input lengths, int64 (B,), see `Recurrent.forward`. ONNX's own operators take it as
            sequence_lens.
        reset: add an input reset, booleans (T, B), or (B, T) with batch_first, see `Recurrent.forward`.
            ONNX's own operators cannot reset, so every layer becomes a Scan.

    Returns:
        The onnx.ModelProto.

    Raises:
        ValueError: a cell or a map cannot be exported.
        UserError: the file cannot be written, or the package onnx is not installed.
    """
    graph, axes = Graph(), spatial_dims(_cells(layer)[0])
    space, count = _SPACE[axes], len(layer.cells)
    lead = ("batch", "time") if layer.batch_first else ("time", "batch")
    xs = _input(graph, layer, (*lead,), space, integers)
    swap = [1, 0, *range(2, 2 + (0 if integers else 1 + axes))]
    if layer.batch_first:
        xs = graph.op("Transpose", [xs], {"perm": swap})
    states = _state_inputs(graph, layer, space) if state_inputs else _initial_states(graph, layer, xs, axes)
    masks = _masks(graph, layer, xs, lead, lengths=lengths, reset=reset)
    ys, new_states = add_layer(graph, layer, xs, states, integers, masks)
    if layer.batch_first:
        ys = graph.op("Transpose", [ys], {"perm": [1, 0, *range(2, 3 + axes)]})
    graph.output(ys, "y", (*lead, layer.directions * layer.state_sizes[0], *space))
    _state_outputs(graph, layer, new_states, count, space)
    return save_model(graph.model("canton"), path)


def export_step(layer: Recurrent, path: str | Path | None = None, *, integers: bool = False) -> Any:
    """Export one step of a stream, `Recurrent.step`.

    Inputs: x (B, C, *space), or int64 (B,) with `integers`, and the state h_0 (and c_0). Outputs: y (B, C,
    *space), and h_n (and c_n), the state for the next x.

    Args:
        layer, path, integers: see `export`.

    Returns:
        The onnx.ModelProto.

    Raises:
        ValueError: the layer is bidirectional, or a cell or a map cannot be exported.
        UserError: the file cannot be written, or the package onnx is not installed.
    """
    graph = Graph()
    space = _SPACE[spatial_dims(_cells(layer)[0])]
    x = _input(graph, layer, ("batch",), space, integers)
    y, new_states = add_step(graph, layer, x, _state_inputs(graph, layer, space), integers)
    graph.output(y, "y", ("batch", layer.state_sizes[0], *space))
    _state_outputs(graph, layer, new_states, len(layer.cells), space)
    return save_model(graph.model("canton"), path)


def add_layer(
    graph: Graph, layer: Recurrent, xs: str, states: list[str], integers: bool, masks: Masks = NO_MASKS
) -> tuple[str, list[str]]:
    """Add the layer over `xs` (T, B, ...) to `graph`, and return its output and last states."""
    cells, each = _cells(layer), layer.directions
    standard = masks.reset is None and standard_ops.has_operator(layer)
    finals: list[list[str]] = [[] for _ in states]
    for first in range(0, len(cells), each):
        stage = cells[first : first + each]
        bounds = [graph.constant([k]) for k in (first, first + each, 0)]
        current = [graph.op("Slice", [s, *bounds]) for s in states]
        if standard and standard_ops.are_same_kind(stage):
            xs, new_states = standard_ops.add_operator(
                graph, stage, xs, current, integers and not first, masks.lengths
            )
        else:
            xs, new_states = _scan(graph, layer, first, xs, current, integers and not first, masks)
        for final, part in zip(finals, new_states, strict=True):
            final.append(part)
    return xs, [_concat(graph, parts) for parts in finals]


def add_step(
    graph: Graph, layer: Recurrent, x: str, states: list[str], integers: bool
) -> tuple[str, list[str]]:
    """Add one step on `x` (B, ...) to `graph`, and return its output and next states."""
    if layer.directions == 2:
        raise ValueError("a bidirectional layer cannot stream: its backward direction starts at the end")
    finals: list[list[str]] = [[] for _ in states]
    axis = graph.constant([0])
    for k, cell in enumerate(_cells(layer)):
        index = graph.constant(torch.tensor(k))
        current = [graph.op("Gather", [s, index]) for s in states]
        new_states = _advance(graph, layer, cell, project(graph, cell, x, integers and not k), current)
        x = new_states[0]
        for final, part in zip(finals, new_states, strict=True):
            final.append(graph.op("Unsqueeze", [part, axis]))
    return x, [_concat(graph, parts) for parts in finals]


def _cells(layer: Recurrent) -> list[Cell]:
    return [cell for cell in layer.cells if isinstance(cell, Cell)]


def _advance(graph: Graph, layer: Recurrent, cell: Cell, gx: str, state: list[str]) -> list[str]:
    new_states = advance(graph, cell, gx, state)
    if not layer.zoneout:
        return new_states
    old, new = (graph.constant(torch.tensor(share)) for share in (layer.zoneout, 1 - layer.zoneout))
    return [
        graph.op("Add", [graph.op("Mul", [old, s]), graph.op("Mul", [new, t])])
        for s, t in zip(state, new_states, strict=True)
    ]


def _scan(
    graph: Graph, layer: Recurrent, first: int, xs: str, states: list[str], integers: bool, masks: Masks
) -> tuple[str, list[str]]:
    """Add one layer's directions, from cell `first` on, as Scans; states are (directions, B, C, *space)."""
    cells = _cells(layer)[first : first + layer.directions]
    axes = spatial_dims(cells[0])
    lead = graph.shape(xs, 0, 2)
    flat = graph.op("Concat", [graph.constant([-1]), graph.shape(xs, 2)], {"axis": 0})
    flat_xs = graph.op("Reshape", [xs, graph.constant([-1]) if integers else flat])
    outputs, finals = [], [list[str]() for _ in states]
    for k, cell in enumerate(cells):
        gx = project(graph, cell, flat_xs, integers)
        gx = graph.op("Reshape", [gx, graph.op("Concat", [lead, graph.shape(gx, 1)], {"axis": 0})])
        current = [graph.op("Gather", [s, graph.constant(torch.tensor(k))]) for s in states]
        reset = masks.reset if masks.reset is None or not k else _backward_reset(graph, masks.reset)
        marks = [_broadcast(graph, mark, axes) for mark in (masks.valid, reset) if mark is not None]
        inputs = [gx, *marks]
        attributes = {
            "body": _body(graph, layer, first + k, masks),
            "num_scan_inputs": len(inputs),
            "scan_input_directions": [k] * len(inputs),
            "scan_output_directions": [k],
        }
        *final, ys = graph.ops("Scan", [*current, *inputs], len(current) + 1, attributes)
        outputs.append(ys)
        for parts, part in zip(finals, final, strict=True):
            parts.append(graph.op("Unsqueeze", [part, graph.constant([0])]))
    ys = outputs[0] if len(outputs) == 1 else graph.op("Concat", outputs, {"axis": 2})
    return ys, [_concat(graph, parts) for parts in finals]


def _body(graph: Graph, layer: Recurrent, index: int, masks: Masks) -> Any:
    """Return one step of cell `index` as the body of a Scan; see `canton.core.recurrent.loop`."""
    cell, body = _cells(layer)[index], Graph(graph)
    axes = spatial_dims(cell)
    space: list[Size] = [None] * axes
    states = [body.input(body.name("state"), (None, size, *space)) for size in cell.state_sizes]
    gx = body.input(body.name("gx"), (None, None, *space))
    mark: list[Size] = [None, 1, *(1,) * axes]
    valid = None if masks.valid is None else body.input(body.name("valid"), mark, torch.bool)
    if masks.reset is not None:
        reset_now = body.input(body.name("reset"), mark, torch.bool)
        starts = [body.constant(_initial_state(layer, index, k, axes)) for k in range(len(states))]
        states = [body.op("Where", [reset_now, f, s]) for f, s in zip(starts, states, strict=True)]
    new_states = _advance(body, layer, cell, gx, states)
    output = new_states[0]
    if valid is not None:
        output = body.op("Where", [valid, output, body.constant(torch.tensor(0.0))])
        new_states = [
            body.op("Where", [valid, new, old]) for new, old in zip(new_states, states, strict=True)
        ]
    for part, size in zip([*new_states, output], [*cell.state_sizes, cell.state_sizes[0]], strict=True):
        body.output(part, body.name("after"), (None, size, *space))
    return body.body()


def _masks(
    graph: Graph, layer: Recurrent, xs: str, lead: tuple[str, str], *, lengths: bool, reset: bool
) -> Masks:
    """Add the inputs lengths and reset, and the masks computed from them; xs is (T, B, ...)."""
    lengths_input = valid = reset_now = None
    if lengths:
        lengths_input = graph.input("lengths", ("batch",), torch.int64)
        steps = graph.op("Squeeze", [graph.shape(xs, 0, 1)])
        zero, one = (graph.constant(torch.tensor(n)) for n in (0, 1))
        times = graph.op("Unsqueeze", [graph.op("Range", [zero, steps, one]), graph.constant([1])])
        valid = graph.op("Less", [times, lengths_input])
    if reset:
        reset_now = graph.input("reset", lead, torch.bool)
        if layer.batch_first:
            reset_now = graph.op("Transpose", [reset_now], {"perm": [1, 0]})
        if valid is not None:
            reset_now = graph.op("And", [reset_now, valid])
    return Masks(lengths_input, valid, reset_now)


def _backward_reset(graph: Graph, reset: str) -> str:
    """Add `canton.core.packing.backward_reset`."""
    one, end, axis = (graph.constant([n]) for n in (1, 2**62, 0))
    first = graph.op("Slice", [reset, axis, one, axis])
    none = graph.op("And", [first, graph.op("Not", [first])])
    return graph.op("Concat", [graph.op("Slice", [reset, one, end, axis]), none], {"axis": 0})


def _broadcast(graph: Graph, mark: str, axes: int) -> str:
    """Add axes of size 1 to a (T, B) mask, to broadcast with (T, B, C, *space)."""
    return graph.op("Unsqueeze", [mark, graph.constant(list(range(2, 3 + axes)))])


def _concat(graph: Graph, parts: list[str]) -> str:
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
    graph: Graph, layer: Recurrent, new_states: list[str], count: int, space: tuple[str, ...]
) -> None:
    for name, part, size in zip(_STATES, new_states, layer.state_sizes, strict=False):
        graph.output(part, f"{name}_n", (count, "batch", size, *space))


def _initial_states(graph: Graph, layer: Recurrent, xs: str, axes: int) -> list[str]:
    """Add the initial states, zeros or the learned ones, in the size of the sequence."""
    batch, space = graph.shape(xs, 1, 2), graph.shape(xs, 3) if axes else None
    count = len(layer.cells)
    states = []
    for k, size in enumerate(layer.state_sizes):
        start = torch.stack([_initial_state(layer, index, k, axes) for index in range(count)])
        parts = [graph.constant([count]), batch, graph.constant([size]), *([space] if space else [])]
        states.append(graph.op("Expand", [graph.constant(start), graph.op("Concat", parts, {"axis": 0})]))
    return states


def _initial_state(layer: Recurrent, index: int, k: int, axes: int) -> Tensor:
    """Return tensor k of the initial state of cell `index`, (1, C, 1, ...): zeros, or the learned state."""
    start = torch.zeros(layer.state_sizes[k])
    if len(layer.initial):
        start = layer.initial[index].detach().split(layer.state_sizes)[k]
    return start.view(1, -1, *(1,) * axes)
