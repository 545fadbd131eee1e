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


Kind = tuple[int, bool]
"""The last n bytes or, if true, the word under way and the n words before it."""


class ByteTable(NamedTuple):
    """Which bytes followed each run of a `kind`: keys int64 (R,), ascending, followers uint8 and counts int32
    (R, 8), totals int32 (R,).
    """

    kind: Kind
    keys: Tensor
    followers: Tensor
    counts: Tensor
    totals: Tensor


class ByteVotes(NamedTuple):
    """What tables are worth: the learned votes (cells,), and weight (tables, in) and bias (tables,) of the
    gate; see canton.text.ngram.mixer.
    """

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
        counts: tables of what followed, and what they are worth, which is added to the logits; or None.
        recent: kinds of runs that are looked for in the last `memory` bytes, and what they are worth; or
        None. count_steps, total_steps: the edges between the cells of counts and of totals.
    """

    embedding: Tensor | None
    contexts: Sequence[tuple[int, Tensor]]
    norm: tuple[Tensor, Tensor, float] | None
    layers: Sequence[GRULayer]
    skip: bool
    narrow: tuple[Tensor, Tensor] | None
    logits: tuple[Tensor, Tensor]
    reach: int | None = None
    counts: tuple[Sequence[ByteTable], ByteVotes] | None = None
    recent: tuple[Sequence[Kind], ByteVotes] | None = None
    memory: int = 0
    count_steps: Sequence[int] = ()
    total_steps: Sequence[int] = ()


def reach(net: ByteNet) -> int:
    """How many bytes before the last are looked at."""
    return max((n for n, _ in net.contexts), default=1) - 1 if net.reach is None else net.reach


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
    least = max((n for n, _ in net.contexts), default=1) - 1
    if net.reach is not None and not least <= net.reach < 64:
        raise ValueError(f"reach is {net.reach}: the contexts need {least}, and 63 is the most")
    if net.counts is not None:
        tables, votes = net.counts
        _check_votes(net, [known.kind for known in tables], votes, seen)
        for k, known in enumerate(tables):
            rows = len(known.keys)
            shapes = [tuple(part.shape) for part in known[1:]]
            if shapes != [(rows,), (rows, 8), (rows, 8), (rows,)]:
                raise ValueError(f"table {k} of counts has the shapes {shapes}")
    if net.recent is not None:
        _check_votes(net, *net.recent, seen)
        if not 1 <= net.memory <= 1 << 24:
            raise ValueError(f"memory is {net.memory}: 1 to {1 << 24} bytes do")
    if net.narrow is not None:
        shape("narrow weight", net.narrow[0], len(net.narrow[1]), seen)
        seen = len(net.narrow[1])
    shape("logits weight", net.logits[0], 256, seen)
    shape("logits bias", net.logits[1], 256)
    if not math.prod(hidden):
        raise ValueError("a layer is empty")
    return hidden


def _check_votes(net: ByteNet, kinds: Sequence[Kind], votes: ByteVotes, seen: int) -> None:
    tables = len(kinds)
    cells = tables * (tables + 1) * (len(net.total_steps) + 1) * (len(net.count_steps) + 1)
    weight, bias = (tuple(part.shape) for part in votes.gate)
    if not 1 <= tables <= TABLES or (votes.votes.numel(), weight, bias) != (cells, (tables, seen), (tables,)):
        raise ValueError(
            f"{tables} tables, {votes.votes.numel()} votes, gate {weight} and {bias}: 1 to {TABLES} tables, "
            f"here {cells} votes and a gate of {(tables, seen)} and {(tables,)} do"
        )
    for n, words in kinds:
        if not ((0 <= n <= 3 and reach(net) >= 23) if words else 1 <= n <= min(7, reach(net) + 1)):
            raise ValueError(
                f"a run of {n} {'words' if words else 'bytes'} looks back beyond {reach(net)} bytes"
            )
