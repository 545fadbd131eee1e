"""Maps and cells as ONNX operators: one step, for the cells that ONNX has no operator for."""

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


def axes_of(cell: Cell) -> int:
    """How many axes of space the cell works on.

    Raises:
        ValueError: its map is no kind that this file knows.
    """
    inner = cell.across if isinstance(cell, SepConvGRUCell) else cell
    for module in inner.input_map.modules():
        if isinstance(module, _CONVOLUTIONS):
            return module.weight.ndim - 2
        if isinstance(module, nn.Linear):
            return 0
    raise ValueError(f"the cell's map is a {type(inner.input_map).__name__}, which cannot be exported")


def project(graph: Graph, cell: Cell, x: str, integers: bool) -> str:
    """`cell.project`: the input half, from (N, C, *space), or from integers (N,) by looking rows up."""
    if isinstance(cell, SepConvGRUCell):
        halves = [project(graph, inner, x, integers) for inner in (cell.across, cell.down)]
        return graph.op("Concat", halves, {"axis": 1})
    if integers:
        if not isinstance(cell.input_map, nn.Linear):
            raise ValueError("integers=True, but only a dense map looks integers up")
        gx = graph.op("Gather", [graph.constant(cell.input_map.weight.t()), x])
        if cell.input_map.bias is not None:
            gx = graph.op("Add", [gx, graph.constant(cell.input_map.bias)])
    else:
        gx = _map(graph, cell.input_map, x, cell.gates)
    return gx if cell.input_norm is None else _norm(graph, cell.input_norm, gx, axes_of(cell))


def advance(graph: Graph, cell: Cell, gx: str, state: list[str]) -> list[str]:
    """`cell.advance`: the hidden half and the gates.

    Raises:
        ValueError: a cell or a map that this file does not know.
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
        f"the cell is a {type(cell).__name__}: only Canton's own can be exported, whose steps are known as"
        " operators; another's step is Python, which an ONNX file cannot hold"
    )


def _rnn(graph: Graph, cell: RNNCell, gx: str, state: list[str]) -> list[str]:
    a = _half(graph, cell, cell.hidden_map, cell.hidden_norm, state[0], 1)
    return [graph.op("Relu" if cell.nonlinearity == "relu" else "Tanh", [graph.op("Add", [gx, a])])]


def _gru(graph: Graph, cell: GRUCell, gx: str, state: list[str]) -> list[str]:
    (h,), hidden = state, cell.hidden_size
    gx_zr, gx_c = graph.split(gx, (2 * hidden, hidden), 1)
    a = _half(graph, cell, cell.hidden_map, cell.hidden_norm, h, 2)
    z, r = graph.split(graph.op("Sigmoid", [graph.op("Add", [gx_zr, a])]), (hidden, hidden), 1)
    seen = graph.op("Mul", [r, h]) if cell.reset == "before" else h
    a = _half(graph, cell, cell.candidate_map, cell.candidate_norm, seen, 1)
    if cell.reset == "after":
        a = graph.op("Mul", [r, a])
    return [_take(graph, h, z, graph.op("Tanh", [graph.op("Add", [gx_c, a])]))]


def _mgu(graph: Graph, cell: MGUCell, gx: str, state: list[str]) -> list[str]:
    (h,), hidden = state, cell.hidden_size
    a = _half(graph, cell, cell.hidden_map, cell.hidden_norm, h, 1)
    gx_c = gx
    if cell.gate_input:
        gx_f, gx_c = graph.split(gx, (hidden, hidden), 1)
        a = graph.op("Add", [a, gx_f])
    f = graph.op("Sigmoid", [a])
    seen = graph.op("Mul", [f, h]) if cell.reset else h
    a = _half(graph, cell, cell.candidate_map, cell.candidate_norm, seen, 1)
    return [_take(graph, h, f, graph.op("Tanh", [graph.op("Add", [gx_c, a])]))]


def _min_gru(graph: Graph, cell: MinGRUCell, gx: str, state: list[str]) -> list[str]:
    a, b = graph.split(gx, (cell.hidden_size,) * 2, 1)
    half, zero = graph.constant(torch.tensor(0.5)), graph.constant(torch.tensor(0.0))
    above = graph.op("GreaterOrEqual", [b, zero])
    c = graph.op("Where", [above, graph.op("Add", [b, half]), graph.op("Sigmoid", [b])])
    return [_take(graph, state[0], graph.op("Sigmoid", [a]), c)]


def _lstm(graph: Graph, cell: LSTMCell, gx: str, state: list[str]) -> list[str]:
    h, c = state
    a = graph.op("Add", [gx, _half(graph, cell, cell.hidden_map, cell.hidden_norm, h, 4)])
    i, f, g, o = graph.split(a, (cell.hidden_size,) * 4, 1)
    peeps = []
    if cell.peephole is not None:
        shape = (-1, *(1,) * axes_of(cell))
        peeps = [graph.constant(p.view(shape)) for p in cell.peephole.detach()]
        i, f = (_plus_product(graph, *term) for term in ((i, peeps[0], c), (f, peeps[1], c)))
    kept = graph.op("Mul", [graph.op("Sigmoid", [f]), c])
    c = graph.op("Add", [kept, graph.op("Mul", [graph.op("Sigmoid", [i]), graph.op("Tanh", [g])])])
    if peeps:
        o = _plus_product(graph, o, peeps[2], c)
    shown = c if cell.memory_norm is None else _norm(graph, cell.memory_norm, c, axes_of(cell))
    h = graph.op("Mul", [graph.op("Sigmoid", [o]), graph.op("Tanh", [shown])])
    return [h if cell.projection is None else _map(graph, cell.projection, h, 1), c]


def _take(graph: Graph, h: str, z: str, c: str) -> str:
    kept = graph.op("Mul", [graph.op("Sub", [graph.constant(torch.tensor(1.0)), z]), h])
    return graph.op("Add", [kept, graph.op("Mul", [z, c])])


def _plus_product(graph: Graph, a: str, p: str, c: str) -> str:
    return graph.op("Add", [a, graph.op("Mul", [p, c])])


def _half(graph: Graph, cell: Cell, module: nn.Module, norm: GateNorm | None, h: str, gates: int) -> str:
    a = _map(graph, module, h, gates)
    return a if norm is None else _norm(graph, norm, a, axes_of(cell))


def _norm(graph: Graph, norm: GateNorm, a: str, axes: int) -> str:
    """`GateNorm`: every gate's channels to mean 0 and variance 1, then gain and shift."""
    channel = graph.constant([1])
    parts = []
    for gate in graph.split(a, (norm.weight.numel() // norm.gates,) * norm.gates, 1):
        centred = graph.op("Sub", [gate, graph.op("ReduceMean", [gate, channel])])
        variance = graph.op("ReduceMean", [graph.op("Mul", [centred, centred]), channel])
        spread = graph.op("Sqrt", [graph.op("Add", [variance, graph.constant(torch.tensor(norm.eps))])])
        parts.append(graph.op("Div", [centred, spread]))
    joined = graph.op("Concat", parts, {"axis": 1})
    shape = (-1, *(1,) * axes)
    joined = graph.op("Mul", [joined, graph.constant(norm.weight.detach().view(shape))])
    if norm.bias is None:
        return joined
    return graph.op("Add", [joined, graph.constant(norm.bias.detach().view(shape))])


def _map(graph: Graph, module: nn.Module, x: str, gates: int) -> str:
    """A map's product, its channels gate by gate."""
    if isinstance(module, nn.Sequential):
        for inner in module:
            x = _map(graph, inner, x, 1)
        return x
    if type(module) is nn.Linear:
        y = graph.op("MatMul", [x, graph.constant(module.weight.t())])
        return y if module.bias is None else graph.op("Add", [y, graph.constant(module.bias)])
    if not isinstance(module, _CONVOLUTIONS) or module.padding != "same":
        raise ValueError(f"the map is a {type(module).__name__}, which cannot be exported")
    kernel, dilation = module.weight.shape[2:], module.dilation
    total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    before = [t // 2 for t in total]  # an even kernel's extra pixel lies after, as torch's "same" has it
    pads = [*before, *(t - b for t, b in zip(total, before, strict=True))]
    if module.padding_mode == "circular":
        around = graph.constant([0, 0, *pads[: len(total)], 0, 0, *pads[len(total) :]])
        x = graph.op("Pad", [x, around], {"mode": "wrap"})
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
