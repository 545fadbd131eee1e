"""Export of a tracking model to ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from canton.core.recurrent import Recurrent
from canton.interop.onnx import export
from canton.interop.onnx.graph import Graph, save_model
from canton.track.model import SLOPE, Block, TrackModel


def export_model(model: TrackModel, path: str | Path | None = None) -> Any:
    """Return the model as an onnx.ModelProto, and write it to `path` if given.

    Inputs are frames (T, B, 3, H, W) in [0, 1] and the state h_0 (layers, B, C, rows, columns), which is zero
    at the start. Outputs are maps (T, B, 3 + distractor classes, rows, columns), see
    `canton.track.model.MAPS`, and the next state h_0_after. The early ConvGRU has early_0 and early_0_after.
    A model without recurrence has no state. T, B, H and W are dynamic; a stream uses T = 1.

    Raises:
        MissingExtra: the package onnx is not installed.
    """
    graph, a = Graph(), model.architecture
    frames = graph.input("frames", ("time", "batch", 3, "height", "width"))
    lead = graph.shape(frames, 0, 2)
    x = _flat(graph, frames)
    two, one = graph.constant(_number(2.0)), graph.constant(_number(1.0))
    x = graph.op("Sub", [graph.op("Mul", [x, two]), one])
    for k, block in enumerate(model.stem):
        assert isinstance(block, Block)
        x = _conv(graph, block.conv, x, *block.folded())
        if block.pool:
            x = graph.op("MaxPool", [x], {"kernel_shape": [2, 2], "strides": [2, 2]})
        x = graph.op("LeakyRelu", [x], {"alpha": SLOPE})
        if k == 0 and model.early is not None:
            early = _convgru(graph, model.early, x, lead, "early_0" if a.recurrent else None)
            x = graph.op("Concat", [x, early], {"axis": 1})
    if model.context is not None:
        context = _conv(graph, model.context.conv, x, *model.context.folded())
        x = graph.op("Add", [x, graph.op("LeakyRelu", [context], {"alpha": SLOPE})])
    if model.memory is not None:
        memory = _convgru(graph, model.memory, x, lead, "h_0" if a.recurrent else None)
        x = graph.op("Concat", [x, memory], {"axis": 1}) if a.bypass else memory
    if model.hidden is not None:
        hidden = _conv(graph, model.hidden, x, model.hidden.weight, model.hidden.bias)
        x = graph.op("LeakyRelu", [hidden], {"alpha": SLOPE})
    maps = _unflat(graph, _conv(graph, model.maps, x, model.maps.weight, model.maps.bias), lead)
    graph.output(maps, "maps", ("time", "batch", model.maps.out_channels, "rows", "columns"))
    return save_model(graph.model("canton-track"), path)


def _convgru(graph: Graph, memory: Recurrent, stem: str, lead: str, name: str | None) -> str:
    """Add a ConvGRU on (T * B, C, rows, columns). name: of its state. None: without recurrence."""
    layers, channels = len(memory.cells), memory.state_sizes[0]
    if name is None:  # each frame is a batch row of a sequence of length 1
        sequence = graph.op("Unsqueeze", [stem, graph.constant([0])])
        count = graph.shape(sequence, 1, 2)
        size = graph.shape(sequence, 3)
        shape = [graph.constant([layers]), count, graph.constant([channels]), size]
        zeros = graph.op("Expand", [graph.constant(_number(0.0)), graph.op("Concat", shape, {"axis": 0})])
        ys, _ = export.add_layer(graph, memory, sequence, [zeros], False)
        return graph.op("Squeeze", [ys, graph.constant([0])])
    prefix = "" if name == "h_0" else "early_"
    shape_of_state = (layers, "batch", channels, f"{prefix}rows", f"{prefix}columns")
    state = graph.input(name, shape_of_state)
    ys, (after,) = export.add_layer(graph, memory, _unflat(graph, stem, lead), [state], False)
    graph.output(after, f"{name}_after", shape_of_state)
    return _flat(graph, ys)


def _conv(graph: Graph, conv: nn.Conv2d, x: str, weight: Tensor, bias: Tensor | None) -> str:
    assert bias is not None
    pads = [int(pad) for pad in conv.padding]
    constants = [graph.constant(weight), graph.constant(bias)]
    attributes = {"strides": list(conv.stride), "pads": pads * 2, "dilations": list(conv.dilation)}
    return graph.op("Conv", [x, *constants], attributes)


def _flat(graph: Graph, x: str) -> str:
    rest = graph.op("Concat", [graph.constant([-1]), graph.shape(x, 2)], {"axis": 0})
    return graph.op("Reshape", [x, rest])


def _unflat(graph: Graph, x: str, lead: str) -> str:
    return graph.op("Reshape", [x, graph.op("Concat", [lead, graph.shape(x, 1)], {"axis": 0})])


def _number(value: float) -> Tensor:
    return torch.tensor(value)
