"""Export of a byte model to ONNX."""

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
from canton.text.onnx.ngram import crop, finalize_hash, integer


def export_model(model: ByteModel, path: str | Path | None = None) -> Any:
    """Return a byte model as an onnx.ModelProto, and write it to `path` if given.

    Inputs: `bytes`, int64 (T, B), and the state of `ByteModel.initial_state`: `past`, int64 (P, B), if the
    state carries bytes, and `h_0`, `h_1`, ... (1, B, H), with `c_0`, `c_1`, ... for an LSTM. Outputs:
    `logits` (T, B, 256), and the next state under the same names with the suffix `_after`. T and B are
    dynamic; T = 1 is one byte at a time.

    Raises:
        UserError: the package onnx is not installed.
    """
    graph, a = Graph(), model.architecture
    window = text = graph.input("bytes", ("time", "batch"), torch.int64)
    if model.past_size:
        past = graph.input("past", (model.past_size, "batch"), torch.int64)
        window = graph.op("Concat", [past, text], {"axis": 0})
    near = crop(graph, window, model.past_size - model.lookback, 0)
    xs, x, outputs = _embed(graph, model, text, near), "", []
    names = ("h", "c") if a.cell == "lstm" else ("h",)
    for k, layer in enumerate(model.layers):
        assert isinstance(layer, Recurrent)
        shape = (1, "batch", a.hidden_size)
        states = [graph.input(f"{name}_{k}", shape) for name in names]
        below = xs if not x else graph.op("Concat", [x, xs], {"axis": -1}) if a.skip else x
        x, after = export.add_layer(graph, layer, below, states, not k and not a.embedding_size)
        for name, value in zip(names, after, strict=True):
            graph.output(value, f"{name}_{k}_after", shape)
        outputs.append(x)
    features = graph.op("Concat", [*outputs, xs], {"axis": -1}) if a.skip else x
    head = features if model.head is None else graph.op("Elu", [_linear(graph, model.head, features)])
    logits = _linear(graph, model.logits, head)
    if model.ngram_mixer is not None and model.ngrams is not None:
        keys = ngram.compute_keys(graph, near, model.lookback, model.ngrams.kinds)
        stats = ngram.look_up_tables(graph, keys, model.ngrams.tables)
        logits = ngram.mix(graph, model.ngram_mixer, logits, stats, features)
    if model.history_mixer is not None and model.history is not None:
        stats = ngram.search_history(graph, window, model.history)
        logits = ngram.mix(graph, model.history_mixer, logits, stats, features)
    graph.output(logits, "logits", ("time", "batch", 256))
    if model.past_size:
        past = crop(graph, window, -model.past_size, 0)
        graph.output(past, "past_after", (model.past_size, "batch"), torch.int64)
    return save_model(graph.model("canton-text"), path)


def _linear(graph: Graph, linear: nn.Linear, x: str) -> str:
    product = graph.op("MatMul", [x, graph.constant(linear.weight.t())])
    return graph.op("Add", [product, graph.constant(linear.bias)])


def _embed(graph: Graph, model: ByteModel, text: str, window: str) -> str:
    """Add `ByteModel._embed` to the graph."""
    if model.embedding is None:
        return text
    xs = graph.op("Gather", [graph.constant(model.embedding.weight), text])
    for (n, rows), table in zip(model.architecture.contexts, model.contexts, strict=True):
        assert isinstance(table, nn.Embedding)
        row = _hash_rows(graph, window, model.lookback - n + 1, n, rows)
        xs = graph.op("Add", [xs, graph.op("Gather", [graph.constant(table.weight), row])])
    if model.norm is not None:
        gain, shift = graph.constant(model.norm.weight), graph.constant(model.norm.bias)
        xs = graph.op("LayerNormalization", [xs, gain, shift], {"axis": -1, "epsilon": model.norm.eps})
    return xs


def _hash_rows(graph: Graph, window: str, first: int, n: int, rows: int) -> str:
    """Add `canton.text.ngram.keys.hash_rows` of the window from `first` on to the graph."""
    value, word = integer(graph, 0), integer(graph, HASH_MASK + 1)
    for k in range(n):
        byte = crop(graph, window, first + k, n - 1 - k)
        extended = graph.op("Add", [graph.op("Mul", [value, integer(graph, HASH_PRIME)]), byte])
        value = graph.op("Mod", [graph.op("Add", [extended, integer(graph, 1)]), word])
    return graph.op("Mod", [finalize_hash(graph, value), integer(graph, rows)])
