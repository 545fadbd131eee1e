"""A byte model's tensors, as the native writer takes them, and whether they fit each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

LAYERS = CONTEXTS = 8
TABLES = 12
"""The most of each that the writer holds."""


class GRULayer(NamedTuple):
    """A reset-before GRU: `input` (3H, in), `bias` (3H,) or None, `gates` (2H, H), `candidate` (H, H)."""

    input: Tensor
    bias: Tensor | None
    gates: Tensor
    candidate: Tensor


class ByteTable(NamedTuple):
    """Which bytes followed each run of `n` bytes, or of words: keys int64 (R,), ascending, followers uint8
    and counts int32 (R, 8), totals int32 (R,).
    """

    n: int
    words: bool
    keys: Tensor
    followers: Tensor
    counts: Tensor
    totals: Tensor


class ByteCounts(NamedTuple):
    """Tables, the edges between the cells of counts and of totals, the learned votes (cells,), and weight
    (tables, in) and bias (tables,) of the gate; see canton.text.votes.
    """

    tables: Sequence[ByteTable]
    count_steps: Sequence[int]
    total_steps: Sequence[int]
    votes: Tensor
    gate: tuple[Tensor, Tensor]


class ByteNet(NamedTuple):
    """A byte model's tensors, weights (out, in); on the processor, float32 or what turns into it.

    Attributes:
        embedding: (256, E), or None if the lowest layer takes the byte as it is, one of 256.
        contexts: pairs of a count n of bytes and the table (rows, E) of the n bytes that end at each place.
        norm: gain and shift (E,) and epsilon of a layer normalisation of the embedding, or None.
        layers: from the lowest up.
        skip: upper layers see [layer below, embedding], the head sees [every layer, embedding].
        narrow: weight and bias of a layer with elu before the logits, or None.
        logits: weight (256, in) and bias (256,).
        reach: how many bytes before the last are asked for; None: as many as the longest context needs.
        counts: what is added to the logits, or None.
    """

    embedding: Tensor | None
    contexts: Sequence[tuple[int, Tensor]]
    norm: tuple[Tensor, Tensor, float] | None
    layers: Sequence[GRULayer]
    skip: bool
    narrow: tuple[Tensor, Tensor] | None
    logits: tuple[Tensor, Tensor]
    reach: int | None = None
    counts: ByteCounts | None = None


def check(net: ByteNet) -> list[int]:
    """Every layer's H.

    Raises: ValueError for shapes that do not fit.
    """
    width = 0 if net.embedding is None else net.embedding.shape[1]
    below, hidden = width or 256, []

    def shape(name: str, tensor: Tensor | None, *wanted: int) -> None:
        if tensor is not None and tuple(tensor.shape) != wanted:
            raise ValueError(f"{name} has the shape {tuple(tensor.shape)}: here it is {wanted}")

    if not 1 <= len(net.layers) <= LAYERS or len(net.contexts) > CONTEXTS:
        raise ValueError(
            f"{len(net.layers)} layers, {len(net.contexts)} contexts: 1 to {LAYERS}, 0 to {CONTEXTS} do"
        )
    if not width and (net.skip or net.contexts or net.norm):
        raise ValueError("embedding is None: contexts, norm and skip need one")
    shape("embedding", net.embedding, 256, width)
    for n, table in net.contexts:
        shape(f"the table of {n} bytes", table, len(table), width)
        if not 2 <= n <= 32 or not len(table):
            raise ValueError(f"a context is of {n} bytes, {len(table)} rows: 2 to 32 bytes, 1 row or more")
    for name, tensor in zip(("norm gain", "norm shift"), (net.norm or ())[:2], strict=False):
        assert isinstance(tensor, Tensor)
        shape(name, tensor, width)
    for k, layer in enumerate(net.layers):
        size = layer.candidate.shape[0]
        shape(f"layer {k}'s candidate", layer.candidate, size, size)
        shape(f"layer {k}'s gates", layer.gates, 2 * size, size)
        shape(f"layer {k}'s input", layer.input, 3 * size, below)
        shape(f"layer {k}'s bias", layer.bias, 3 * size)
        below = size + (width if net.skip else 0)
        hidden.append(size)
    seen = sum(hidden) + width if net.skip else hidden[-1]
    reach = max((n for n, _ in net.contexts), default=1) - 1
    if net.reach is not None and not reach <= net.reach < 64:
        raise ValueError(f"reach is {net.reach}: the contexts need {reach}, and 63 is the most")
    if net.counts is not None:
        _check_counts(net.counts, seen, reach if net.reach is None else net.reach)
    if net.narrow is not None:
        shape("narrow weight", net.narrow[0], len(net.narrow[1]), seen)
        seen = len(net.narrow[1])
    shape("logits weight", net.logits[0], 256, seen)
    shape("logits bias", net.logits[1], 256)
    if not math.prod(hidden):
        raise ValueError("a layer is empty")
    return hidden


def _check_counts(counts: ByteCounts, seen: int, reach: int) -> None:
    tables = len(counts.tables)
    cells = tables * (tables + 1) * (len(counts.total_steps) + 1) * (len(counts.count_steps) + 1)
    if (
        not 1 <= tables <= TABLES
        or counts.votes.numel() != cells
        or tuple(counts.gate[0].shape) != (tables, seen)
    ):
        raise ValueError(
            f"{tables} tables of counts, {counts.votes.numel()} votes, gate {tuple(counts.gate[0].shape)}: "
            f"1 to {TABLES} tables, here {cells} votes and a gate of {(tables, seen)} do"
        )
    for k, table in enumerate(counts.tables):
        rows = len(table.keys)
        shapes = [tuple(part.shape) for part in table[2:]]
        if shapes != [(rows,), (rows, 8), (rows, 8), (rows,)]:
            raise ValueError(f"table {k} of counts has the shapes {shapes}")
        if (0 <= table.n <= 3 and reach >= 23) if table.words else 1 <= table.n <= min(7, reach + 1):
            continue
        raise ValueError(f"table {k} of counts is of {table.n} and looks further back than {reach} bytes")
