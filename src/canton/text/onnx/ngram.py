"""N-gram statistics and mixing as parts of an ONNX graph: `canton.text.ngram` operator by operator.

All integers stay in [0, 2**63).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from canton.interop.onnx.graph import Graph
from canton.text.ngram.history import NgramHistory
from canton.text.ngram.keys import (
    HASH_MASK,
    HASH_MULTIPLIER,
    HASH_PRIME,
    HASH_SHIFTS,
    WORD_LOOKBACK,
    NgramKind,
)
from canton.text.ngram.mixer import COUNT_EDGES, TOTAL_EDGES, NgramMixer
from canton.text.ngram.table import NgramTable
from canton.text.types import MAX_FOLLOWERS


class StatsNames(NamedTuple):
    """The names of the values of a `canton.text.types.NgramStats`."""

    followers: str
    counts: str
    totals: str


def integer(graph: Graph, value: int) -> str:
    """Return an integer scalar."""
    return graph.constant(torch.tensor(value))


def finalize_hash(graph: Graph, value: str) -> str:
    """Add `keys.finalize_hash` to the graph."""

    def folded(value: str, shift: int) -> str:
        return graph.op("BitwiseXor", [value, graph.op("Div", [value, integer(graph, 1 << shift)])])

    first, second = HASH_SHIFTS
    product = graph.op("Mul", [folded(value, first), integer(graph, HASH_MULTIPLIER)])
    return folded(graph.op("Mod", [product, integer(graph, HASH_MASK + 1)]), second)


def crop(graph: Graph, window: str, start: int, less: int) -> str:
    """Return the rows of `window` from `start` on, without the last `less`."""
    return graph.op("Slice", [window, *(graph.constant([k]) for k in (start, -less or 2**62, 0))])


def compute_keys(graph: Graph, window: str, lookback: int, kinds: Sequence[NgramKind]) -> list[str]:
    """Add `keys.compute_keys` to the graph: (lookback + T, B) to (T, B) for each kind."""
    max_words = max((kind.n for kind in kinds if kind.words), default=None)
    words = None if max_words is None else _words(graph, window, lookback, max_words)
    return [
        _word_key(graph, words, kind.n)
        if kind.words and words
        else _byte_key(graph, window, lookback, kind.n)
        for kind in kinds
    ]


def look_up_tables(graph: Graph, keys: Sequence[str], tables: Sequence[NgramTable]) -> StatsNames:
    """Add `NgramTables.look_up` for keys (T, B) of N = T * B positions to the graph."""
    found = [_row(graph, key, table) for key, table in zip(keys, tables, strict=True)]
    return _stack(graph, found)


def search_history(graph: Graph, window: str, history: NgramHistory) -> StatsNames:
    """Add `NgramHistory.look_up` to the graph: a Scan over positions, so memory does not grow with T."""
    keys = compute_keys(graph, window, history.lookback, history.kinds)
    steps = graph.op("Sub", [graph.shape(keys[0], 0, 1), graph.constant([history.size])])
    places = graph.op("Range", [integer(graph, 0), graph.op("Squeeze", [steps]), integer(graph, 1)])
    body = Graph(graph)
    place = body.input("place", (), torch.int64)
    start = body.op("Unsqueeze", [place, body.constant([0])])
    end = body.op("Add", [start, body.constant([history.size])])
    followers_size = min(MAX_FOLLOWERS, history.size)
    for k, key in enumerate(keys):
        before = body.op("Slice", [key, start, end, body.constant([0])])
        here = body.op("Gather", [key, end])
        order = body.constant(torch.arange(1, history.size + 1)[:, None])
        same = body.op("Where", [body.op("Equal", [before, here]), order, integer(body, 0)])
        latest, _ = body.ops("TopK", [same, body.constant([followers_size])], 2, {"axis": 0})
        rows = body.op("Add", [latest, body.op("Add", [start, body.constant([history.lookback])])])
        followers = body.op("GatherElements", [window, rows], {"axis": 0})
        body.output(followers, f"followers_{k}", (followers_size, "batch"), torch.int64)
        valid = _as_int(body, body.op("Greater", [latest, integer(body, 0)]))
        total = body.op("ReduceSum", [valid, body.constant([0])], {"keepdims": 0})
        body.output(total, f"totals_{k}", ("batch",), torch.int64)
    outputs = graph.ops("Scan", [places], 2 * len(keys), {"body": body.body(), "num_scan_inputs": 1})
    ranks = graph.constant(torch.arange(1, followers_size + 1))
    found = []
    for followers, totals in zip(outputs[::2], outputs[1::2], strict=True):
        rows = graph.op("Transpose", [followers], {"perm": [0, 2, 1]})
        rows = graph.op("Reshape", [rows, graph.constant([-1, followers_size])])
        total = graph.op("Reshape", [totals, graph.constant([-1, 1])])
        valid = _as_int(graph, graph.op("LessOrEqual", [ranks, total]))
        found.append(StatsNames(rows, graph.op("Mul", [ranks, valid]), total))
    return _stack(graph, found)


def mix(graph: Graph, mixer: NgramMixer, logits: str, stats: StatsNames, features: str) -> str:
    """Add `NgramMixer.forward` to the graph."""
    zero = integer(graph, 0)
    known = _as_int(graph, graph.op("Greater", [stats.totals, zero]))
    found = graph.op("ReduceSum", [known, graph.constant([1])])
    first = torch.arange(mixer.tables) * (mixer.tables + 1)
    row = graph.op("Add", [graph.constant(first), found])
    row = _bucket(graph, row, stats.totals, TOTAL_EDGES)
    row = graph.op("Unsqueeze", [row, graph.constant([-1])])
    row = _bucket(graph, row, stats.counts, COUNT_EDGES)
    scores = graph.op("Gather", [graph.constant(mixer.scores.weight.flatten()), row])
    valid = graph.op("Cast", [graph.op("Greater", [stats.counts, zero])], {"to": 1})
    gate = graph.op("MatMul", [features, graph.constant(mixer.gate.weight.t())])
    gate = graph.op("Sigmoid", [graph.op("Add", [gate, graph.constant(mixer.gate.bias)])])
    gate = graph.op("Reshape", [gate, graph.constant([-1, mixer.tables, 1])])
    gate = graph.op("Mul", [gate, graph.constant(torch.tensor(2.0))])
    added = graph.op("Flatten", [graph.op("Mul", [graph.op("Mul", [scores, valid]), gate])])
    total = graph.op("Reshape", [logits, graph.constant([-1, 256])])
    followers = graph.op("Flatten", [stats.followers])
    total = graph.op("ScatterElements", [total, followers, added], {"axis": 1, "reduction": "add"})
    return graph.op("Reshape", [total, graph.op("Shape", [logits])])


def _as_int(graph: Graph, value: str) -> str:
    return graph.op("Cast", [value], {"to": 7})


def _stack(graph: Graph, found: Sequence[StatsNames]) -> StatsNames:
    """Stack the statistics of K tables, (N, F), (N, F) and (N, 1) each."""
    axis = graph.constant([1])
    followers, counts = (
        graph.op("Concat", [graph.op("Unsqueeze", [value, axis]) for value in values], {"axis": 1})
        for values in list(zip(*found, strict=True))[:2]
    )
    return StatsNames(followers, counts, graph.op("Concat", [each.totals for each in found], {"axis": 1}))


def _bucket(graph: Graph, row: str, values: str, edges: Sequence[int]) -> str:
    """Append the bucket of `values` between `edges` to a row number of the mixer."""
    expanded = graph.op("Unsqueeze", [values, graph.constant([-1])])
    reached = _as_int(graph, graph.op("GreaterOrEqual", [expanded, graph.constant(edges)]))
    step = graph.op("ReduceSum", [reached, graph.constant([-1])], {"keepdims": 0})
    return graph.op("Add", [graph.op("Mul", [row, integer(graph, len(edges) + 1)]), step])


def _row(graph: Graph, key: str, table: NgramTable) -> StatsNames:
    """Return the row of each key, by binary search; zeros for a key that the table does not hold."""
    keys, last = graph.constant(table.keys), integer(graph, len(table.keys) - 1)
    query = graph.op("Reshape", [key, graph.constant([-1])])
    below = graph.op("Mul", [query, integer(graph, 0)])  # keys known to be smaller
    for bit in reversed(range(len(table.keys).bit_length())):
        further = graph.op("Add", [below, integer(graph, 1 << bit)])
        at = graph.op("Min", [graph.op("Sub", [further, integer(graph, 1)]), last])
        inside = graph.op("LessOrEqual", [further, integer(graph, len(table.keys))])
        smaller = graph.op("Less", [graph.op("Gather", [keys, at]), query])
        below = graph.op("Where", [graph.op("And", [inside, smaller]), further, below])
    row = graph.op("Min", [below, last])
    known = _as_int(graph, graph.op("Equal", [graph.op("Gather", [keys, row]), query]))
    known = graph.op("Unsqueeze", [known, graph.constant([-1])])

    def of(part: Tensor) -> str:
        return _as_int(graph, graph.op("Gather", [graph.constant(part, keep_dtype=True), row]))

    totals = graph.op("Mul", [graph.op("Unsqueeze", [of(table.totals), graph.constant([-1])]), known])
    return StatsNames(of(table.followers), graph.op("Mul", [of(table.counts), known]), totals)


def _byte_key(graph: Graph, window: str, lookback: int, n: int) -> str:
    value = crop(graph, window, lookback - n + 1, n - 1)
    for k in range(1, n):
        byte = crop(graph, window, lookback - n + 1 + k, n - 1 - k)
        value = graph.op("Add", [graph.op("Mul", [value, integer(graph, 256)]), byte])
    return value


class _Words(NamedTuple):
    current: str
    end: str
    before: list[str]


def _words(graph: Graph, window: str, lookback: int, max_words: int) -> _Words:
    """Add `keys._words` to the graph."""

    def between(value: str, low: int, high: int) -> str:
        least = graph.op("GreaterOrEqual", [value, integer(graph, low)])
        return graph.op("And", [least, graph.op("LessOrEqual", [value, integer(graph, high)])])

    zero = integer(graph, 0)
    shifted = graph.op("Add", [window, integer(graph, 32)])
    lower = graph.op("Where", [between(window, 65, 90), shifted, window])
    inside = between(lower, 39, 39)
    for low, high in ((48, 57), (97, 122), (128, 255)):
        inside = graph.op("Or", [inside, between(lower, low, high)])
    current = graph.op("Mul", [crop(graph, window, lookback, 0), zero])
    before = [current] * max_words
    for back in range(WORD_LOOKBACK, -1, -1):
        here = crop(graph, inside, lookback - back, back)
        outside = graph.op("Not", [here])
        ended = graph.op("And", [outside, graph.op("Greater", [current, zero])])
        before = [
            graph.op("Where", [ended, before[j - 1] if j else current, before[j]]) for j in range(max_words)
        ]
        byte = graph.op("Add", [crop(graph, lower, lookback - back, back), integer(graph, 1)])
        extended = graph.op("Add", [graph.op("Mul", [current, integer(graph, HASH_PRIME)]), byte])
        extended = graph.op("Mod", [extended, integer(graph, HASH_MASK + 1)])
        current = graph.op("Where", [here, extended, zero])
    last = graph.op("Add", [crop(graph, window, lookback, 0), integer(graph, 1)])
    return _Words(current, graph.op("Where", [here, zero, last]), before)


def _word_key(graph: Graph, words: _Words, n: int) -> str:
    value = words.current
    for part in (words.end, *words.before[:n]):
        product = graph.op("Mul", [finalize_hash(graph, value), integer(graph, HASH_PRIME)])
        value = graph.op("Mod", [graph.op("Add", [product, part]), integer(graph, HASH_MASK + 1)])
    return finalize_hash(graph, value)
