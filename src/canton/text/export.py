"""A byte model as an ONNX file: bytes and the state in, logits and the state after out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from canton.errors import UserError
from canton.recurrent import Recurrent
from canton.text.model import ByteModel
from canton.weights import onnx
from canton.weights.onnx_graph import Graph, written


def export_model(model: ByteModel, path: str | Path | None = None) -> Any:
    """The model as an onnx.ModelProto; also written to `path` if given.

    Inputs: bytes, int64 (T, B), and the state of `ByteModel.start`: past, int64 (n, B), if the model has
    contexts, and h_0, h_1, ... (1, B, hidden), for an LSTM c_0, c_1, ... as well. Outputs: logits (T, B,
    256), and the state under the same names with _after. Time and batch are free; one byte at a time is T =
    1.

    Raises:
        UserError: the package onnx is not installed; which extra brings it.
    """
    if model.counts is not None:
        raise UserError("a model with counts has no ONNX form: train one with --no-counts")
    graph, a = Graph(), model.architecture
    window = read = graph.input("bytes", ("time", "batch"), torch.int64)
    if model.reach:
        past = graph.input("past", (model.reach, "batch"), torch.int64)
        window = graph.op("Concat", [past, read], {"axis": 0})
    xs, x, heard = _embed(graph, model, read, window), "", []
    names = ("h", "c") if a.cell == "lstm" else ("h",)
    for k, layer in enumerate(model.layers):
        assert isinstance(layer, Recurrent)
        shape = (1, "batch", a.hidden)
        states = [graph.input(f"{name}_{k}", shape) for name in names]
        below = xs if not x else graph.op("Concat", [x, xs], {"axis": -1}) if a.skip else x
        x, after = onnx.run(graph, layer, below, states, not k and not a.embedding)
        for name, value in zip(names, after, strict=True):
            graph.output(value, f"{name}_{k}_after", shape)
        heard.append(x)
    seen = graph.op("Concat", [*heard, xs], {"axis": -1}) if a.skip else x
    if model.narrow is not None:
        seen = graph.op("Elu", [_linear(graph, model.narrow, seen)])
    graph.output(_linear(graph, model.logits, seen), "logits", ("time", "batch", 256))
    if model.reach:
        ends = [graph.constant([k]) for k in (-model.reach, 2**62, 0)]
        graph.output(graph.op("Slice", [window, *ends]), "past_after", (model.reach, "batch"), torch.int64)
    return written(graph.model("canton-text"), path)


def _linear(graph: Graph, linear: nn.Linear, x: str) -> str:
    product = graph.op("MatMul", [x, graph.constant(linear.weight.t())])
    return graph.op("Add", [product, graph.constant(linear.bias)])


def _embed(graph: Graph, model: ByteModel, read: str, window: str) -> str:
    """`ByteModel._embed`."""
    if model.embedding is None:
        return read
    xs = graph.op("Gather", [graph.constant(model.embedding.weight), read])
    for (n, rows), table in zip(model.architecture.contexts, model.contexts, strict=True):
        assert isinstance(table, nn.Embedding)
        row = _hashed(graph, window, model.reach - n + 1, n, rows)
        xs = graph.op("Add", [xs, graph.op("Gather", [graph.constant(table.weight), row])])
    if model.norm is not None:
        gain, shift = graph.constant(model.norm.weight), graph.constant(model.norm.bias)
        xs = graph.op("LayerNormalization", [xs, gain, shift], {"axis": -1, "epsilon": model.norm.eps})
    return xs


def _hashed(graph: Graph, window: str, first: int, n: int, rows: int) -> str:
    """`canton.text.model._hashed` of the window from `first` on; no number leaves 0 .. 2**63 - 1."""

    def number(value: int) -> str:
        return graph.constant(torch.tensor(value))

    def scrambled(value: str, shift: int) -> str:
        return graph.op("BitwiseXor", [value, graph.op("Div", [value, number(1 << shift)])])

    value, word = number(0), number(1 << 32)
    for k in range(n):
        end = k - n + 1 or 2**62
        bounds = [graph.constant([at]) for at in (first + k, end, 0)]
        byte = graph.op("Slice", [window, *bounds])
        grown = graph.op("Add", [graph.op("Mul", [value, number(0x01000193)]), byte])
        value = graph.op("Mod", [graph.op("Add", [grown, number(1)]), word])
    value = graph.op("Mod", [graph.op("Mul", [scrambled(value, 15), number(0x2C1B3C6D)]), word])
    return graph.op("Mod", [scrambled(value, 13), number(rows)])
