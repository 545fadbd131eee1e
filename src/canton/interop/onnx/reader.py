"""Reader of ONNX files: the recurrent operators GRU, LSTM and RNN become Canton layers.

It reads the files of PyTorch's exporters, tf2onnx and onnxruntime's optimiser and quantiser. Weights may be
initializers, external data, or computed from constants by other nodes (slices, transposes, quantisation);
nodes inside the bodies of If, Loop and Scan and inside local functions are found too. Equations and weight
layouts are those of `standard_ops`. onnxruntime's DynamicQuantizeLSTM becomes a layer with its weights
dequantised; its quantisation of the activations is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from canton.core.cell import Cell, State
from canton.core.packing import backward_reset, flip
from canton.core.recurrent import Call, Recurrent
from canton.errors import UserError, require
from canton.interop.gate_matrices import (
    GateMatrices,
    as_tensor,
    gru_cell,
    layer_from_cells,
    lstm_cell,
    negate_update_gate,
    rnn_cell,
)
from canton.io.atomic import os_error_reason

_INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
_QUANTISED_INPUTS = (*_INPUTS, "W_scale", "W_zero_point", "R_scale", "R_zero_point")
_DEFAULTS = {"GRU": ["sigmoid", "tanh"], "LSTM": ["sigmoid", "tanh", "tanh"], "RNN": ["tanh"]}
_STANDARD = ("", "ai.onnx")
_MOVES = (
    "Cast",
    "Concat",
    "Expand",
    "Flatten",
    "Identity",
    "Reshape",
    "Slice",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
)
"""Operators that only move or repeat the elements of their inputs."""


class BackwardRecurrent(Recurrent[Any]):
    """A layer that runs from the last step to the first, as an ONNX node with ``direction="reverse"``.

    With lengths every row starts at its own last step. Arguments and results are those of `Recurrent`;
    ``return_all=True`` is refused.
    """

    def step(
        self,
        input: Tensor,
        hx: Tensor | State | None = None,
        *,
        reset: Tensor | None = None,
        reset_state: Tensor | State | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, Any]:
        raise ValueError("a backward layer cannot step: it starts at the end of the sequence")

    def _run(self, call: Call, return_all: bool) -> tuple[Tensor, Tensor | State, Tensor | State | None]:
        if return_all:
            raise ValueError("return_all must be False for a backward layer, got True")
        reset = None if call.reset is None else flip(backward_reset(call.reset), call.lengths)
        ys, state, _ = super()._run(call._replace(xs=flip(call.xs, call.lengths), reset=reset), False)
        return flip(ys, call.lengths), state, None


@dataclass(frozen=True)
class NodeInputs:
    """What a node of the graph reads beside its weights: pass the same to its layer.

    Attributes:
        x: name of the graph's value that is the input, (T, B, C), or (B, T, C) if the layer has batch_first.
        lengths: name of sequence_lens, or its numbers if the file contains them; None: all steps are valid.
        hx: names of initial_h (and initial_c), or their numbers, (directions, B, hidden). A named value is
            (B, directions, hidden) if the layer has batch_first. Empty: zeros, or the same numbers for all
            rows, which are the layer's learned initial state.
    """

    x: str
    lengths: str | Tensor | None = None
    hx: tuple[str | Tensor, ...] = ()


@dataclass(frozen=True)
class LoadedGraph:
    """The recurrent layers of an ONNX file, by the names of their nodes (unnamed ones: GRU_0, GRU_1, ...).

    Attributes:
        layers: a `canton.GRU`, `LSTM` or `RNN` each, a plain `Recurrent` if the two directions have different
            activations, or a `BackwardRecurrent`. A stack in the file is several layers.
        inputs: what each of these nodes reads.
        unmapped: why the other nodes are not mapped. Nodes that only compute constants are left out.
    """

    layers: dict[str, Recurrent[Any]] = field(default_factory=dict)
    inputs: dict[str, NodeInputs] = field(default_factory=dict)
    unmapped: dict[str, str] = field(default_factory=dict)


def load(path: str | Path, *, values: Mapping[str, Any] | None = None) -> LoadedGraph:
    """Return the recurrent layers of an ONNX file.

    Args:
        path: the file; external data is read from beside it.
        values: arrays of graph inputs by name, for weights that the file does not contain.

    Raises:
        UserError: the file cannot be read or is no ONNX file; or onnx is not installed.

    Example:
        >>> graph = load("model.onnx")
        >>> layer = graph.layers["/gru/GRU"]
        >>> graph.unmapped
        {'/head/MatMul': 'MatMul is not a recurrent operator'}
    """
    onnx = require("onnx", extra="onnx")
    path = Path(path)
    try:
        model = onnx.load(str(path))
        if model.functions:
            model = onnx.inliner.inline_local_functions(model)
    except OSError as error:
        raise UserError(f"cannot read {path}: {os_error_reason(error)}") from error
    except Exception as error:  # protobuf's decoder and onnx's checks raise classes of their own
        raise UserError(f"{path} is damaged or not an ONNX file") from error
    if not model.graph.node:
        raise UserError(f"{path} is not an ONNX file: it has no nodes")
    scope = _Scope(onnx, model.opset_import, {name: as_numpy(v) for name, v in (values or {}).items()})
    loaded = LoadedGraph()
    _read_graph(model.graph, scope, loaded)
    return loaded


def as_numpy(value: Any) -> Any:
    """Return a value as a NumPy array; a tensor is detached."""
    numpy = require("numpy", extra="onnx")
    return numpy.asarray(value.detach().cpu() if isinstance(value, Tensor) else value)


class _Scope:
    """The constants that a graph sees: its own and those of the graphs around it."""

    def __init__(self, onnx: Any, opsets: Any, constants: dict[str, Any]) -> None:
        self.onnx, self.opsets = onnx, opsets
        self.constants, self.producers = constants, dict[str, Any]()

    def inner(self, graph: Any) -> _Scope:
        """Return the scope inside `graph`."""
        scope = _Scope(self.onnx, self.opsets, dict(self.constants))
        scope.producers = self.producers | {name: node for node in graph.node for name in node.output if name}
        for tensor in graph.initializer:
            scope.constants[tensor.name] = self.onnx.numpy_helper.to_array(tensor)
        return scope

    def constant(self, name: str) -> Any:
        """Return the array of a value that depends on no input, or None."""
        if name not in self.constants:
            node = self.producers.get(name)
            if node is None or any(attribute.HasField("g") for attribute in node.attribute):
                return None
            # a file may have a chain of any length: no recursion
            todo, order, seen = [node], list[Any](), set[int]()
            while todo:
                node = todo.pop()
                if id(node) in seen:
                    continue
                seen.add(id(node))
                order.append(node)
                for each in node.input:
                    if not each or each in self.constants:
                        continue
                    if each not in self.producers or node.op_type.startswith("Random"):
                        return None
                    todo.append(self.producers[each])
            self._evaluate(order, name)
        return self.constants.get(name)

    def uniform(self, name: str) -> float | None:
        """Return the number that every element of a value has, for example of zeros in the batch's size."""
        for _ in range(len(self.producers) + 1):
            array = self.constant(name)
            if array is not None:
                return float(array.flat[0]) if array.size and (array == array.flat[0]).all() else None
            node = self.producers.get(name)
            if node is None or node.domain not in _STANDARD:
                return None
            if node.op_type == "ConstantOfShape":
                value = [self.onnx.numpy_helper.to_array(each.t) for each in node.attribute]
                return float(value[0].flat[0]) if value else 0.0
            if node.op_type == "Concat" and len(set(node.input)) > 1:
                parts = {self.uniform(each) for each in node.input}
                return parts.pop() if len(parts) == 1 else None
            if node.op_type not in _MOVES:
                return None
            name = node.input[0]
        return None

    def _evaluate(self, nodes: list[Any], name: str) -> None:
        """Compute `nodes`, and keep the value `name`; nothing if onnx cannot compute them."""
        helper = self.onnx.helper
        needed = {each for node in nodes for each in node.input if each in self.constants}
        nodes = _sorted(nodes)
        inputs = [helper.make_tensor_value_info(each, 0, None) for each in sorted(needed)]
        output = helper.make_tensor_value_info(name, 0, None)
        graph = helper.make_graph(nodes, "constants", inputs, [output])
        model = helper.make_model(graph, opset_imports=list(self.opsets))
        try:
            evaluator = require("onnx.reference", extra="onnx").ReferenceEvaluator(model)
            (self.constants[name],) = evaluator.run(None, {each: self.constants[each] for each in needed})
        except Exception:  # an unknown operator: the node that reads the value is then unmapped
            return


def _sorted(nodes: list[Any]) -> list[Any]:
    """Return nodes so that each follows those whose outputs it reads."""
    waiting, ready, known = list(nodes), list[Any](), set[str]()
    made = {name for node in nodes for name in node.output}
    while waiting:
        now = [node for node in waiting if all(each not in made or each in known for each in node.input)]
        if not now:
            raise ValueError("the graph has a cycle")
        ready += now
        known |= {name for node in now for name in node.output}
        waiting = [node for node in waiting if not any(node is each for each in now)]
    return ready


def _read_graph(graph: Any, outer: _Scope, loaded: LoadedGraph) -> None:
    """Add the nodes of a graph and of the graphs inside it to `loaded`."""
    scope = outer.inner(graph)
    for node in graph.node:
        kind = _kind(node)
        if kind is None:
            outputs = [name for name in node.output if name]
            if all(scope.constant(name) is not None for name in outputs):
                continue
        name = _unused(node.name or f"{node.op_type}_{len(loaded.layers) + len(loaded.unmapped)}", loaded)
        if kind is None:
            loaded.unmapped[name] = f"{node.op_type} is not a recurrent operator"
            for attribute in node.attribute:
                for body in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs):
                    _read_graph(body, scope, loaded)
            continue
        try:
            layer, inputs = _layer(node, kind, scope)
        except ValueError as error:
            loaded.unmapped[name] = f"{node.op_type}: {error}"
        else:
            loaded.layers[name], loaded.inputs[name] = layer, inputs


def _kind(node: Any) -> str | None:
    if node.domain in _STANDARD and node.op_type in _DEFAULTS:
        return str(node.op_type)
    return "LSTM" if (node.domain, node.op_type) == ("com.microsoft", "DynamicQuantizeLSTM") else None


def _unused(name: str, loaded: LoadedGraph) -> str:
    known, free, count = loaded.layers.keys() | loaded.unmapped.keys(), name, 1
    while free in known:
        free, count = f"{name}_{count}", count + 1
    return free


def _layer(node: Any, kind: str, scope: _Scope) -> tuple[Recurrent[Any], NodeInputs]:
    """Return the layer of a node, and what it reads.

    Raises:
        ValueError: no Canton layer computes the same.
    """
    options = {each.name: scope.onnx.helper.get_attribute_value(each) for each in node.attribute}
    quantised = node.op_type == "DynamicQuantizeLSTM"
    order = _QUANTISED_INPUTS if quantised else _INPUTS if kind == "LSTM" else _INPUTS[:6]
    names = {key: name for key, name in zip(order, node.input, strict=False) if name}
    direction = options.get("direction", b"forward").decode()
    if direction not in ("forward", "reverse", "bidirectional"):
        raise ValueError(f"direction must be forward, reverse or bidirectional, got {direction!r}")
    directions = 2 if direction == "bidirectional" else 1
    for option, expected in (("clip", None), ("input_forget", 0)):
        if options.get(option, expected) != expected:
            raise ValueError(f"{option}={options[option]} has no equivalent in Canton")
    activations = _activations(options, kind, directions)
    weights: dict[str, Tensor] = {}
    for key in ("W", "R", "B", "P"):
        if key in names:
            weights[key] = _weight(scope, names, key, quantised)
    missing = [key for key in ("W", "R") if key not in weights]
    if missing:
        raise ValueError(f"{missing[0]} must be an input of the node")
    if any(len(weight) != directions for weight in weights.values()):
        shapes = ", ".join(f"{key} {tuple(weight.shape)}" for key, weight in weights.items())
        raise ValueError(f"weights must have {directions} directions on the first axis, got {shapes}")
    reset_after = bool(options.get("linear_before_reset", 0))
    cells = [
        _cell(kind, {key: weight[k] for key, weight in weights.items()}, activations[k], reset_after)
        for k in range(directions)
    ]
    hidden_size = options.get("hidden_size", cells[0].hidden_size)
    if hidden_size != cells[0].hidden_size:
        raise ValueError(
            f"hidden_size must be that of the weights, {cells[0].hidden_size}, got {hidden_size}"
        )
    batch_first = bool(options.get("layout", 0))
    layer: Recurrent[Any] = layer_from_cells(cells, bidirectional=directions == 2, batch_first=batch_first)
    if direction == "reverse":
        layer = BackwardRecurrent(cells, batch_first=batch_first)
    return layer, _inputs(layer, names, scope)


def _activations(options: dict[str, Any], kind: str, directions: int) -> list[str]:
    """Return the nonlinearity of each direction."""
    default = _DEFAULTS[kind]
    found = [name.decode().lower() for name in options.get("activations", ())] or default * directions
    parts = [found[k : k + len(default)] for k in range(0, len(found), len(default))]
    allowed = [default, ["relu"]] if kind == "RNN" else [default]
    if len(parts) != directions or any(part not in allowed for part in parts):
        raise ValueError(f"activations must be {' or '.join(map(str, allowed))} per direction, got {found}")
    return [part[-1] for part in parts]


def _weight(scope: _Scope, names: dict[str, str], key: str, quantised: bool) -> Tensor:
    """Return the weights that are the input `key` of a node."""
    array = scope.constant(names[key])
    if array is None:
        raise ValueError(f"{key} ({names[key]}) must be a constant: pass it in values if it is a graph input")
    if not quantised or key not in ("W", "R"):
        if array.dtype.name == "bfloat16":  # a type that NumPy and torch do not share
            return as_tensor(array.astype("float32"), key).bfloat16()
        return as_tensor(array, key)
    scale, zero = (scope.constant(names.get(f"{key}_{part}", "")) for part in ("scale", "zero_point"))
    if scale is None or zero is None:
        raise ValueError(f"{key}_scale and {key}_zero_point must be constants")
    # stored as (directions, input, gates * hidden), with a scale for each direction or for each column
    numbers = [torch.from_numpy(each.astype("float32")) for each in (array, scale, zero)]
    weight, scale, zero = numbers[0], *(each.reshape(len(each), 1, -1) for each in numbers[1:])
    return ((weight - zero) * scale).transpose(1, 2).contiguous()


def _cell(kind: str, weights: dict[str, Tensor], activation: str, reset_after: bool) -> Cell:
    """Return the cell of one direction; its weights are W, R, and perhaps B and P."""
    x, h = weights["W"], weights["R"]
    both = weights.get("B")
    if x.ndim != 2 or h.ndim != 2 or (both is not None and both.shape != (2 * len(x),)):
        shapes = ", ".join(f"{key} {tuple(weight.shape)}" for key, weight in weights.items())
        raise ValueError(f"weights must have one axis for directions and two for a matrix, got {shapes}")
    bias, hidden_bias = (None, None) if both is None else both.chunk(2)
    if kind == "RNN":
        joined = None if bias is None or hidden_bias is None else bias + hidden_bias
        return rnn_cell(GateMatrices(x, h, joined), "relu" if activation == "relu" else "tanh")
    if kind == "GRU":
        candidate_bias = None
        if bias is not None and hidden_bias is not None:
            joined = bias + hidden_bias
            if reset_after:
                candidate_bias = hidden_bias.chunk(3)[2]
                joined = torch.cat([*joined.chunk(3)[:2], bias.chunk(3)[2]])
            bias = negate_update_gate(joined)
        matrices = GateMatrices(negate_update_gate(x), negate_update_gate(h), bias, candidate_bias)
        return gru_cell(matrices, reset="after" if reset_after else "before")
    joined = None if bias is None or hidden_bias is None else _iofg_to_ifgo(bias + hidden_bias)
    peephole = weights.get("P")
    if peephole is not None:
        i, o, f = peephole.reshape(3, -1)
        peephole = torch.stack([i, f, o])
    return lstm_cell(GateMatrices(_iofg_to_ifgo(x), _iofg_to_ifgo(h), joined), peephole=peephole)


def _iofg_to_ifgo(t: Tensor) -> Tensor:
    i, o, f, g = t.chunk(4)
    return torch.cat([i, f, g, o])


def _inputs(layer: Recurrent[Any], names: dict[str, str], scope: _Scope) -> NodeInputs:
    """Return what a node reads; set constant first states that are equal for all rows in `layer`."""
    lengths: str | Tensor | None = names.get("sequence_lens")
    if isinstance(lengths, str) and (array := scope.constant(lengths)) is not None:
        lengths = torch.from_numpy(array.copy()).long()
    keys = [key for key in ("initial_h", "initial_c")[: len(layer.state_sizes)] if key in names]
    states = [_state(layer, k, names[key], scope) for k, key in enumerate(keys)]
    if all(isinstance(state, Tensor) and not state.any() for state in states):
        return NodeInputs(names["X"], lengths)
    if len(states) != len(layer.state_sizes):
        raise ValueError("initial_h and initial_c must both be inputs of the node or both be left out")
    known = [state for state in states if isinstance(state, Tensor)]
    rows = [row for state in known for row in state.unbind(1)]
    if len(known) == len(states) and len(rows) == len(states):  # one row: it holds for any batch
        layer.initial = nn.ParameterList(torch.cat(rows, dim=-1).unbind(0))
        return NodeInputs(names["X"], lengths)
    return NodeInputs(names["X"], lengths, tuple(states))


def _state(layer: Recurrent[Any], k: int, name: str, scope: _Scope) -> str | Tensor:
    """Return the first state: (directions, B, C), (directions, 1, C) if all rows are equal, or its name."""
    array = scope.constant(name)
    if array is None:
        value = scope.uniform(name)
        return name if value is None else torch.full((layer.directions, 1, layer.state_sizes[k]), value)
    state = as_tensor(array, name)
    state = state.transpose(0, 1) if layer.batch_first else state
    return state[:, :1] if torch.equal(state, state[:, :1].expand_as(state)) else state
