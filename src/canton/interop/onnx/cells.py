"""One step of a cell in ONNX operators, for cells without an operator of their own."""

from __future__ import annotations

import torch
from torch import nn

from canton import maps
from canton.cells.gru import GRUCell
from canton.cells.lstm import LSTMCell
from canton.cells.mgu import MGUCell
from canton.cells.min_gru import MinGRUCell
from canton.cells.rnn import RNNCell
from canton.core.cell import Cell
from canton.core.norms import GateNorm
from canton.interop.onnx.graph import Graph
from canton.interop.raft import SepConvGRUCell

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def spatial_dims(cell: Cell) -> int:
    """Return the number of spatial axes of the cell.

    Raises:
        ValueError: its map cannot be exported.
    """
    inner = cell.across if isinstance(cell, SepConvGRUCell) else cell
    for module in inner.input_map.modules():
        if isinstance(module, _CONVOLUTIONS):
            return module.weight.ndim - 2
        if isinstance(module, nn.Linear):
            return 0
    raise ValueError(f"a map of type {type(inner.input_map).__name__} cannot be exported")


def project(graph: Graph, cell: Cell, x: str, integers: bool) -> str:
    """Add `cell.project`: the input half of (N, C, *space), or of integers (N,)."""
    if isinstance(cell, SepConvGRUCell):
        halves = [project(graph, inner, x, integers) for inner in (cell.across, cell.down)]
        return graph.op("Concat", halves, {"axis": 1})
    if integers:
        if not isinstance(cell.input_map, nn.Linear):
            raise ValueError("integers=True needs a dense map")
        gx = graph.op("Gather", [graph.constant(cell.input_map.weight.t()), x])
        if cell.input_map.bias is not None:
            gx = graph.op("Add", [gx, graph.constant(cell.input_map.bias)])
    else:
        gx = _map(graph, cell.input_map, x, cell.gates)
    return gx if cell.input_norm is None else _norm(graph, cell.input_norm, gx, spatial_dims(cell))


def advance(graph: Graph, cell: Cell, gx: str, state: list[str]) -> list[str]:
    """Add `cell.advance`: the hidden half and the gates.

    Raises:
        ValueError: the cell or its map cannot be exported.
    """
    if isinstance(cell, SepConvGRUCell):
        across, down = graph.split(gx, (3 * cell.hidden_size,) * 2, 1)
        return advance(graph, cell.down, down, advance(graph, cell.across, across, state))
    if type(cell) is RNNCell:
        return _rnn(graph, cell, gx, state)
    if type(cell) is GRUCell:
        return _gru(graph, cell, gx, state)
    if type(cell) is MGUCell:
        return _mgu(graph, cell, gx, state)
    if type(cell) is MinGRUCell:
        return _min_gru(graph, cell, gx, state)
    if type(cell) is LSTMCell:
        return _lstm(graph, cell, gx, state)
    raise ValueError(
        f"a cell of type {type(cell).__name__} cannot be exported: ONNX files cannot contain its Python code"
    )


def _rnn(graph: Graph, cell: RNNCell, gx: str, state: list[str]) -> list[str]:
    a = _hidden(graph, cell, cell.hidden_map, cell.hidden_norm, state[0], 1)
    return [graph.op("Relu" if cell.nonlinearity == "relu" else "Tanh", [graph.op("Add", [gx, a])])]


def _gru(graph: Graph, cell: GRUCell, gx: str, state: list[str]) -> list[str]:
    (h,), hidden = state, cell.hidden_size
    gx_zr, gx_c = graph.split(gx, (2 * hidden, hidden), 1)
    a = _hidden(graph, cell, cell.hidden_map, cell.hidden_norm, h, 2)
    z, r = graph.split(graph.op("Sigmoid", [graph.op("Add", [gx_zr, a])]), (hidden, hidden), 1)
    hidden_in = graph.op("Mul", [r, h]) if cell.reset == "before" else h
    a = _hidden(graph, cell, cell.candidate_map, cell.candidate_norm, hidden_in, 1)
    if cell.reset == "after":
        a = graph.op("Mul", [r, a])
    return [_lerp_gate(graph, h, z, graph.op("Tanh", [graph.op("Add", [gx_c, a])]))]


def _mgu(graph: Graph, cell: MGUCell, gx: str, state: list[str]) -> list[str]:
    (h,), hidden = state, cell.hidden_size
    a = _hidden(graph, cell, cell.hidden_map, cell.hidden_norm, h, 1)
    gx_c = gx
    if cell.gate_input:
        gx_f, gx_c = graph.split(gx, (hidden, hidden), 1)
        a = graph.op("Add", [a, gx_f])
    f = graph.op("Sigmoid", [a])
    hidden_in = graph.op("Mul", [f, h]) if cell.reset else h
    a = _hidden(graph, cell, cell.candidate_map, cell.candidate_norm, hidden_in, 1)
    return [_lerp_gate(graph, h, f, graph.op("Tanh", [graph.op("Add", [gx_c, a])]))]


def _min_gru(graph: Graph, cell: MinGRUCell, gx: str, state: list[str]) -> list[str]:
    a, b = graph.split(gx, (cell.hidden_size,) * 2, 1)
    half, zero = graph.constant(torch.tensor(0.5)), graph.constant(torch.tensor(0.0))
    above = graph.op("GreaterOrEqual", [b, zero])
    c = graph.op("Where", [above, graph.op("Add", [b, half]), graph.op("Sigmoid", [b])])
    return [_lerp_gate(graph, state[0], graph.op("Sigmoid", [a]), c)]


def _lstm(graph: Graph, cell: LSTMCell, gx: str, state: list[str]) -> list[str]:
    h, c = state
    a = graph.op("Add", [gx, _hidden(graph, cell, cell.hidden_map, cell.hidden_norm, h, 4)])
    i, f, g, o = graph.split(a, (cell.hidden_size,) * 4, 1)
    peepholes = []
    if cell.peephole is not None:
        shape = (-1, *(1,) * spatial_dims(cell))
        peepholes = [graph.constant(p.view(shape)) for p in cell.peephole.detach()]
        i, f = (_multiply_add(graph, *term) for term in ((i, peepholes[0], c), (f, peepholes[1], c)))
    old = graph.op("Mul", [graph.op("Sigmoid", [f]), c])
    c = graph.op("Add", [old, graph.op("Mul", [graph.op("Sigmoid", [i]), graph.op("Tanh", [g])])])
    if peepholes:
        o = _multiply_add(graph, o, peepholes[2], c)
    memory = c if cell.memory_norm is None else _norm(graph, cell.memory_norm, c, spatial_dims(cell))
    h = graph.op("Mul", [graph.op("Sigmoid", [o]), graph.op("Tanh", [memory])])
    return [h if cell.projection is None else _map(graph, cell.projection, h, 1), c]


def _lerp_gate(graph: Graph, h: str, z: str, c: str) -> str:
    old = graph.op("Mul", [graph.op("Sub", [graph.constant(torch.tensor(1.0)), z]), h])
    return graph.op("Add", [old, graph.op("Mul", [z, c])])


def _multiply_add(graph: Graph, a: str, p: str, c: str) -> str:
    return graph.op("Add", [a, graph.op("Mul", [p, c])])


def _hidden(graph: Graph, cell: Cell, module: nn.Module, norm: GateNorm | None, h: str, gates: int) -> str:
    a = _map(graph, module, h, gates)
    return a if norm is None else _norm(graph, norm, a, spatial_dims(cell))


def _norm(graph: Graph, norm: GateNorm, a: str, dims: int) -> str:
    """Add `GateNorm`."""
    channel = graph.constant([1])
    parts = []
    for gate in graph.split(a, (norm.weight.numel() // norm.gates,) * norm.gates, 1):
        centred = graph.op("Sub", [gate, graph.op("ReduceMean", [gate, channel])])
        variance = graph.op("ReduceMean", [graph.op("Mul", [centred, centred]), channel])
        deviation = graph.op("Sqrt", [graph.op("Add", [variance, graph.constant(torch.tensor(norm.eps))])])
        parts.append(graph.op("Div", [centred, deviation]))
    joined = graph.op("Concat", parts, {"axis": 1})
    shape = (-1, *(1,) * dims)
    joined = graph.op("Mul", [joined, graph.constant(norm.weight.detach().view(shape))])
    if norm.bias is None:
        return joined
    return graph.op("Add", [joined, graph.constant(norm.bias.detach().view(shape))])


def _map(graph: Graph, module: nn.Module, x: str, gates: int) -> str:
    """Add a map, with its output channels in the order of the gates."""
    if isinstance(module, nn.Sequential):
        for inner in module:
            x = _map(graph, inner, x, 1)
        return x
    if type(module) is nn.Linear:
        y = graph.op("MatMul", [x, graph.constant(module.weight.t())])
        return y if module.bias is None else graph.op("Add", [y, graph.constant(module.bias)])
    if not isinstance(module, _CONVOLUTIONS) or module.padding != "same":
        raise ValueError(f"a map of type {type(module).__name__} cannot be exported")
    kernel, dilation = module.weight.shape[2:], module.dilation
    total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    before = [t // 2 for t in total]  # the odd pixel of an even kernel goes after, as in torch
    pads = [*before, *(t - b for t, b in zip(total, before, strict=True))]
    if module.padding_mode == "circular":
        widths = graph.constant([0, 0, *pads[: len(total)], 0, 0, *pads[len(total) :]])
        x = graph.op("Pad", [x, widths], {"mode": "wrap"})
        pads = [0] * len(pads)
    inputs = [x, graph.constant(module.weight)]
    if module.bias is not None:
        inputs.append(graph.constant(module.bias))
    attributes = {"pads": pads, "dilations": list(dilation), "group": module.groups}
    y = graph.op("Conv", inputs, attributes)
    if module.groups == 1 or gates == 1:
        return y
    order = torch.arange(module.weight.shape[0])[None]
    return graph.op("Gather", [y, graph.constant(maps.regroup(order, gates, module.groups)[0])], {"axis": 1})
