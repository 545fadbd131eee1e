"""Counts, and what was read just now, as a part of an ONNX graph: `runs`, `counts`, `recent` and `votes`
again, operator by operator. No whole number leaves 0 .. 2**63 - 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from canton.interop.onnx.graph import Graph
from canton.text.ngram.history import Recall
from canton.text.ngram.keys import HASH_MASK, HASH_MULTIPLIER, HASH_PRIME, HASH_SHIFTS, WORD_REACH, Run
from canton.text.ngram.mixer import COUNT_STEPS, TOTAL_STEPS, Votes
from canton.text.ngram.table import Table
from canton.text.types import SLOTS


class Named(NamedTuple):
    """`canton.text.types.Evidence` by the names of its values: (N, K, slots) twice, (N, K)."""

    followers: str
    counts: str
    totals: str


def number(graph: Graph, value: int) -> str:
    """A whole number without axes."""
    return graph.constant(torch.tensor(value))


def finalize_hash(graph: Graph, value: str) -> str:
    """Add `keys.finalize_hash` to the graph."""

    def folded(value: str, shift: int) -> str:
        return graph.op("BitwiseXor", [value, graph.op("Div", [value, number(graph, 1 << shift)])])

    first, second = HASH_SHIFTS
    product = graph.op("Mul", [folded(value, first), number(graph, HASH_MULTIPLIER)])
    return folded(graph.op("Mod", [product, number(graph, HASH_MASK + 1)]), second)


def piece(graph: Graph, window: str, start: int, less: int) -> str:
    """`window` from `start` on, without its last `less` rows."""
    return graph.op("Slice", [window, *(graph.constant([k]) for k in (start, -less or 2**62, 0))])


def numbers(graph: Graph, window: str, reach: int, runs: Sequence[Run]) -> list[str]:
    """`runs.numbers`: (reach + T, B) to (T, B) for each run."""
    most = max((run.n for run in runs if run.words), default=None)
    words = None if most is None else _words(graph, window, reach, most)
    return [
        _joined(graph, words, run.n) if run.words and words else _bytes(graph, window, reach, run.n)
        for run in runs
    ]


def counted(graph: Graph, keys: Sequence[str], tables: Sequence[Table]) -> Named:
    """`Counts.look_up` for numbers (T, B) of N = T * B places."""
    found = [_row(graph, key, table) for key, table in zip(keys, tables, strict=True)]
    return _evidence(graph, found)


def recalled(graph: Graph, window: str, recall: Recall) -> Named:
    """`Recall.look_up`, a place at a time: in a Scan, so that memory does not grow with time."""
    keys = numbers(graph, window, recall.reach, recall.runs)
    steps = graph.op("Sub", [graph.shape(keys[0], 0, 1), graph.constant([recall.memory])])
    places = graph.op("Range", [number(graph, 0), graph.op("Squeeze", [steps]), number(graph, 1)])
    body = Graph(graph)
    place = body.input("place", (), torch.int64)
    start = body.op("Unsqueeze", [place, body.constant([0])])
    end = body.op("Add", [start, body.constant([recall.memory])])
    slots = min(SLOTS, recall.memory)
    for k, key in enumerate(keys):
        before = body.op("Slice", [key, start, end, body.constant([0])])
        here = body.op("Gather", [key, end])
        order = body.constant(torch.arange(1, recall.memory + 1)[:, None])
        same = body.op("Where", [body.op("Equal", [before, here]), order, number(body, 0)])
        latest, _ = body.ops("TopK", [same, body.constant([slots])], 2, {"axis": 0})
        rows = body.op("Add", [latest, body.op("Add", [start, body.constant([recall.reach])])])
        followers = body.op("GatherElements", [window, rows], {"axis": 0})
        body.output(followers, f"followers_{k}", (slots, "batch"), torch.int64)
        real = _whole(body, body.op("Greater", [latest, number(body, 0)]))
        total = body.op("ReduceSum", [real, body.constant([0])], {"keepdims": 0})
        body.output(total, f"totals_{k}", ("batch",), torch.int64)
    outputs = graph.ops("Scan", [places], 2 * len(keys), {"body": body.body(), "num_scan_inputs": 1})
    ranks = graph.constant(torch.arange(1, slots + 1))
    found = []
    for followers, totals in zip(outputs[::2], outputs[1::2], strict=True):
        rows = graph.op("Transpose", [followers], {"perm": [0, 2, 1]})
        rows = graph.op("Reshape", [rows, graph.constant([-1, slots])])
        total = graph.op("Reshape", [totals, graph.constant([-1, 1])])
        real = _whole(graph, graph.op("LessOrEqual", [ranks, total]))
        found.append(Named(rows, graph.op("Mul", [ranks, real]), total))
    return _evidence(graph, found)


def voted(graph: Graph, votes: Votes, logits: str, evidence: Named, seen: str) -> str:
    """`Votes.forward`."""
    zero = number(graph, 0)
    known = _whole(graph, graph.op("Greater", [evidence.totals, zero]))
    found = graph.op("ReduceSum", [known, graph.constant([1])])
    first = torch.arange(votes.tables) * (votes.tables + 1)
    cell = graph.op("Add", [graph.constant(first), found])
    cell = _cell(graph, cell, evidence.totals, TOTAL_STEPS)
    cell = graph.op("Unsqueeze", [cell, graph.constant([-1])])
    cell = _cell(graph, cell, evidence.counts, COUNT_STEPS)
    worth = graph.op("Gather", [graph.constant(votes.vote.weight.flatten()), cell])
    real = graph.op("Cast", [graph.op("Greater", [evidence.counts, zero])], {"to": 1})
    gate = graph.op("MatMul", [seen, graph.constant(votes.gate.weight.t())])
    gate = graph.op("Sigmoid", [graph.op("Add", [gate, graph.constant(votes.gate.bias)])])
    gate = graph.op("Reshape", [gate, graph.constant([-1, votes.tables, 1])])
    gate = graph.op("Mul", [gate, graph.constant(torch.tensor(2.0))])
    added = graph.op("Flatten", [graph.op("Mul", [graph.op("Mul", [worth, real]), gate])])
    total = graph.op("Reshape", [logits, graph.constant([-1, 256])])
    followers = graph.op("Flatten", [evidence.followers])
    total = graph.op("ScatterElements", [total, followers, added], {"axis": 1, "reduction": "add"})
    return graph.op("Reshape", [total, graph.op("Shape", [logits])])


def _whole(graph: Graph, truth: str) -> str:
    return graph.op("Cast", [truth], {"to": 7})


def _evidence(graph: Graph, found: Sequence[Named]) -> Named:
    """The K tables' (N, slots), (N, slots), (N, 1) as one."""
    axis = graph.constant([1])
    followers, counts = (
        graph.op("Concat", [graph.op("Unsqueeze", [value, axis]) for value in values], {"axis": 1})
        for values in list(zip(*found, strict=True))[:2]
    )
    return Named(followers, counts, graph.op("Concat", [each.totals for each in found], {"axis": 1}))


def _cell(graph: Graph, cell: str, values: str, edges: Sequence[int]) -> str:
    """A table's cell one axis further: how many of `edges` the values have reached."""
    apart = graph.op("Unsqueeze", [values, graph.constant([-1])])
    reached = _whole(graph, graph.op("GreaterOrEqual", [apart, graph.constant(edges)]))
    step = graph.op("ReduceSum", [reached, graph.constant([-1])], {"keepdims": 0})
    return graph.op("Add", [graph.op("Mul", [cell, number(graph, len(edges) + 1)]), step])


def _row(graph: Graph, key: str, table: Table) -> Named:
    """The row of each key, found by halving; zeros for a key that is not there."""
    keys, last = graph.constant(table.keys), number(graph, len(table.keys) - 1)
    wanted = graph.op("Reshape", [key, graph.constant([-1])])
    below = graph.op("Mul", [wanted, number(graph, 0)])  # how many keys are smaller, as far as is known
    for bit in reversed(range(len(table.keys).bit_length())):
        further = graph.op("Add", [below, number(graph, 1 << bit)])
        at = graph.op("Min", [graph.op("Sub", [further, number(graph, 1)]), last])
        inside = graph.op("LessOrEqual", [further, number(graph, len(table.keys))])
        smaller = graph.op("Less", [graph.op("Gather", [keys, at]), wanted])
        below = graph.op("Where", [graph.op("And", [inside, smaller]), further, below])
    row = graph.op("Min", [below, last])
    known = _whole(graph, graph.op("Equal", [graph.op("Gather", [keys, row]), wanted]))
    known = graph.op("Unsqueeze", [known, graph.constant([-1])])

    def of(part: Tensor) -> str:
        return _whole(graph, graph.op("Gather", [graph.constant(part, keep_dtype=True), row]))

    totals = graph.op("Mul", [graph.op("Unsqueeze", [of(table.totals), graph.constant([-1])]), known])
    return Named(of(table.followers), graph.op("Mul", [of(table.counts), known]), totals)


def _bytes(graph: Graph, window: str, reach: int, n: int) -> str:
    value = piece(graph, window, reach - n + 1, n - 1)
    for k in range(1, n):
        byte = piece(graph, window, reach - n + 1 + k, n - 1 - k)
        value = graph.op("Add", [graph.op("Mul", [value, number(graph, 256)]), byte])
    return value


class _Words(NamedTuple):
    under_way: str
    end: str
    before: list[str]


def _words(graph: Graph, window: str, reach: int, most: int) -> _Words:
    """`runs._words`."""

    def between(value: str, low: int, high: int) -> str:
        least = graph.op("GreaterOrEqual", [value, number(graph, low)])
        return graph.op("And", [least, graph.op("LessOrEqual", [value, number(graph, high)])])

    zero = number(graph, 0)
    lower = graph.op("Add", [window, number(graph, 32)])
    small = graph.op("Where", [between(window, 65, 90), lower, window])
    inside = between(small, 39, 39)
    for low, high in ((48, 57), (97, 122), (128, 255)):
        inside = graph.op("Or", [inside, between(small, low, high)])
    under_way = graph.op("Mul", [piece(graph, window, reach, 0), zero])
    before = [under_way] * most
    for back in range(WORD_REACH, -1, -1):
        here = piece(graph, inside, reach - back, back)
        outside = graph.op("Not", [here])
        ended = graph.op("And", [outside, graph.op("Greater", [under_way, zero])])
        before = [
            graph.op("Where", [ended, before[j - 1] if j else under_way, before[j]]) for j in range(most)
        ]
        byte = graph.op("Add", [piece(graph, small, reach - back, back), number(graph, 1)])
        grown = graph.op("Add", [graph.op("Mul", [under_way, number(graph, HASH_PRIME)]), byte])
        grown = graph.op("Mod", [grown, number(graph, HASH_MASK + 1)])
        under_way = graph.op("Where", [here, grown, zero])
    last = graph.op("Add", [piece(graph, window, reach, 0), number(graph, 1)])
    return _Words(under_way, graph.op("Where", [here, zero, last]), before)


def _joined(graph: Graph, words: _Words, n: int) -> str:
    value = words.under_way
    for part in (words.end, *words.before[:n]):
        product = graph.op("Mul", [finalize_hash(graph, value), number(graph, HASH_PRIME)])
        value = graph.op("Mod", [graph.op("Add", [product, part]), number(graph, HASH_MASK + 1)])
    return finalize_hash(graph, value)
