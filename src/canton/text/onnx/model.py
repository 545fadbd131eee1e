"""A byte model as an ONNX file: bytes and the state in, logits and the state after out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from canton.core.recurrent import Recurrent
from canton.interop.onnx import export
from canton.interop.onnx.graph import Graph, save_model
from canton.text.model import ByteModel
from canton.text.ngram.keys import HASH_MASK, HASH_PRIME
from canton.text.onnx import ngram
from canton.text.onnx.ngram import finalize_hash, number, piece


def export_model(model: ByteModel, path: str | Path | None = None) -> Any:
    """The model as an onnx.ModelProto; also written to `path` if given.

    Inputs: bytes, int64 (T, B), and the state of `ByteModel.start`: past, int64 (n, B), if the model
    looks back, and h_0, h_1, ... (1, B, hidden), for an LSTM c_0, c_1, ... as well. Outputs: logits (T, B,
    256), and the state under the same names with _after. Time and batch are free; one byte at a time is T =
    1.

    Raises:
        UserError: the package onnx is not installed; which extra brings it.
    """
    graph, a = Graph(), model.architecture
    window = read = graph.input("bytes", ("time", "batch"), torch.int64)
    if model.carried:
        past = graph.input("past", (model.carried, "batch"), torch.int64)
        window = graph.op("Concat", [past, read], {"axis": 0})
    near = piece(graph, window, model.carried - model.reach, 0)
    xs, x, heard = _embed(graph, model, read, near), "", []
    names = ("h", "c") if a.cell == "lstm" else ("h",)
    for k, layer in enumerate(model.layers):
        assert isinstance(layer, Recurrent)
        shape = (1, "batch", a.hidden)
        states = [graph.input(f"{name}_{k}", shape) for name in names]
        below = xs if not x else graph.op("Concat", [x, xs], {"axis": -1}) if a.skip else x
        x, after = export.add_layer(graph, layer, below, states, not k and not a.embedding)
        for name, value in zip(names, after, strict=True):
            graph.output(value, f"{name}_{k}_after", shape)
        heard.append(x)
    seen = graph.op("Concat", [*heard, xs], {"axis": -1}) if a.skip else x
    narrow = seen if model.narrow is None else graph.op("Elu", [_linear(graph, model.narrow, seen)])
    logits = _linear(graph, model.logits, narrow)
    if model.votes is not None and model.counts is not None:
        keys = ngram.numbers(graph, near, model.reach, model.counts.runs)
        evidence = ngram.counted(graph, keys, model.counts.tables)
        logits = ngram.voted(graph, model.votes, logits, evidence, seen)
    if model.reminders is not None and model.recall is not None:
        evidence = ngram.recalled(graph, window, model.recall)
        logits = ngram.voted(graph, model.reminders, logits, evidence, seen)
    graph.output(logits, "logits", ("time", "batch", 256))
    if model.carried:
        past = piece(graph, window, -model.carried, 0)
        graph.output(past, "past_after", (model.carried, "batch"), torch.int64)
    return save_model(graph.model("canton-text"), path)


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
        row = _hash_rows(graph, window, model.reach - n + 1, n, rows)
        xs = graph.op("Add", [xs, graph.op("Gather", [graph.constant(table.weight), row])])
    if model.norm is not None:
        gain, shift = graph.constant(model.norm.weight), graph.constant(model.norm.bias)
        xs = graph.op("LayerNormalization", [xs, gain, shift], {"axis": -1, "epsilon": model.norm.eps})
    return xs


def _hash_rows(graph: Graph, window: str, first: int, n: int, rows: int) -> str:
    """`canton.text.ngram.keys.hash_rows` of the window from `first` on."""
    value, word = number(graph, 0), number(graph, HASH_MASK + 1)
    for k in range(n):
        byte = piece(graph, window, first + k, n - 1 - k)
        grown = graph.op("Add", [graph.op("Mul", [value, number(graph, HASH_PRIME)]), byte])
        value = graph.op("Mod", [graph.op("Add", [grown, number(graph, 1)]), word])
    return graph.op("Mod", [finalize_hash(graph, value), number(graph, rows)])
