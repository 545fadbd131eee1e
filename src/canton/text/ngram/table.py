"""What followed each run of bytes, and of words, counted once, before training.

For every run that the training part holds, a row: which bytes came after it, and how often. The model reads
these counts beside its own state (`canton.text.ngram.mixer`), so that its layers need not learn by heart
what can be looked up.

A model in training would find in the counts the very byte it is to guess. So the text is cut into `FOLDS`
stretches, every row knows how much of it each stretch gave, and whoever reads in a stretch sees the counts of
the others: as a text that was not counted will see them all. (To leave out the one byte alone would not do:
a text repeats itself nearby, and long runs would seem surer than they are.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from canton.errors import UserError
from canton.text.corpus import FOLDS, Bytes
from canton.text.ngram.keys import Run, numbers
from canton.text.types import SLOTS, Evidence

PIECE = 1 << 18
"""Bytes whose runs are numbered at a time, so that a large text needs no large memory."""


class Table(NamedTuple):
    """The rows of one kind of run, sorted by `keys` (R,), `canton.text.ngram.keys.numbers`.

    followers uint8, counts int32 (R, SLOTS), the most frequent first; totals int32 (R,), those that found no
    slot among them.
    """

    keys: Tensor
    followers: Tensor
    counts: Tensor
    totals: Tensor


class Shares(NamedTuple):
    """How much of a `Table` each fold gave: counts (R, FOLDS, SLOTS), totals (R, FOLDS)."""

    counts: Tensor
    totals: Tensor


class Counts:
    """A table for each of `runs`. Make one by `count`.

    shares: for reading the very text that was counted; None when that is over.
    """

    def __init__(
        self, runs: Sequence[Run], tables: Sequence[Table], shares: Sequence[Shares] | None = None
    ) -> None:
        self.runs, self.tables, self.shares = tuple(runs), list(tables), shares
        self.fresh: list[dict[int, dict[int, int]]] = [{} for _ in self.runs]

    def look_up(self, window: Tensor, reach: int, folds: Tensor | None = None) -> Evidence:
        """What followed the runs that end at each byte of `window` from `reach` on: (reach + T, B) to N = T *
        B.

        folds: (T, B), the fold each place's answer lies in, whose counts are left out; from `FOLDS` on, none.
        """
        found = []
        for k, (keys, table) in enumerate(zip(self._keys(window, reach), self.tables, strict=True)):
            row, known = _find(table, keys)
            counts, totals = table.counts[row], table.totals[row]
            if folds is not None and self.shares is not None:
                fold = folds.flatten().cpu()
                inside, fold = fold < FOLDS, fold.clamp(max=FOLDS - 1)
                counts = counts - self.shares[k].counts[row, fold] * inside[:, None]
                totals = totals - self.shares[k].totals[row, fold] * inside
            evidence = Evidence(table.followers[row], counts * known[:, None], totals * known)
            found.append(self._freshened(k, keys, evidence) if self.fresh[k] else evidence)
        return Evidence(*(torch.stack(parts, 1) for parts in zip(*found, strict=True)))

    def add(self, window: Tensor, reach: int, answers: Tensor, *, weight: int = 1) -> None:
        """Count on: after the run that ends at each byte of `window` (reach + T, 1) came that of `answers`
        (T,).

        weight: how many times each of these counts.
        """
        followers = answers.tolist()
        for k, (keys, table) in enumerate(zip(self._keys(window, reach), self.tables, strict=True)):
            row, known = _find(table, keys)
            fresh = self.fresh[k]
            for key, at, old, follower in zip(
                keys.tolist(), row.tolist(), known.tolist(), followers, strict=True
            ):
                if key not in fresh:
                    fresh[key] = _unpacked(table, at) if old else {}
                fresh[key][follower] = fresh[key].get(follower, 0) + weight

    def _keys(self, window: Tensor, reach: int) -> list[Tensor]:
        return [number.flatten() for number in numbers(window.cpu(), reach, self.runs)]

    def _freshened(self, k: int, keys: Tensor, evidence: Evidence) -> Evidence:
        followers, counts, totals = (part.clone() for part in evidence)
        for place, key in enumerate(keys.tolist()):
            row = self.fresh[k].get(key)
            if row is not None:
                best = sorted((pair for pair in row.items() if pair[0] >= 0), key=lambda pair: -pair[1])[
                    :SLOTS
                ]
                best += [(0, 0)] * (SLOTS - len(best))
                followers[place] = torch.tensor([follower for follower, _ in best], dtype=torch.uint8)
                counts[place] = torch.tensor([times for _, times in best], dtype=torch.int32)
                totals[place] = sum(row.values())
        return Evidence(followers, counts, totals)


def count(text: Bytes, runs: Sequence[Run], rows: int) -> Counts:
    """Count what follows each of `runs` in `text`, with shares; keep the `rows` most frequent."""
    answers = text[1:].astype(np.int64)
    fold = np.arange(1, len(text)) * FOLDS // len(text)
    reach = max(run.reach for run in runs)
    padded = torch.from_numpy(np.concatenate([np.zeros(reach, np.uint8), text[:-1]]))
    pieces = [
        numbers(padded[start : start + PIECE + reach].long()[:, None], reach, runs)
        for start in range(0, len(answers), PIECE)
    ]
    tables, shares = [], []
    for parts in zip(*pieces, strict=True):
        table, share = _count(torch.cat(parts)[:, 0].numpy(), answers, fold, rows)
        tables.append(table)
        shares.append(share)
    return Counts(runs, tables, shares)


def _count(numbers: np.ndarray, answers: np.ndarray, fold: np.ndarray, rows: int) -> tuple[Table, Shares]:
    keys, row = np.unique(numbers, return_inverse=True)
    totals = np.bincount(row, minlength=len(keys))
    if len(keys) > rows:
        kept = np.sort(np.argsort(-totals, kind="stable")[:rows])
        place = np.full(len(keys), -1)
        place[kept] = np.arange(rows)
        here = place[row] >= 0
        keys, totals = keys[kept], totals[kept]
        row, answers, fold = place[row[here]], answers[here], fold[here]
    pairs, pair, times = np.unique(row << 8 | answers, return_inverse=True, return_counts=True)
    owner = pairs >> 8
    order = np.lexsort((-times, owner))
    rank = np.empty(len(pairs), np.int64)
    rank[order] = np.arange(len(pairs)) - np.searchsorted(owner[order], owner[order])
    slotted = rank < SLOTS
    followers = np.zeros((len(keys), SLOTS), np.uint8)
    counts = np.zeros((len(keys), SLOTS), np.int32)
    followers[owner[slotted], rank[slotted]] = pairs[slotted] & 255
    counts[owner[slotted], rank[slotted]] = times[slotted]
    seen = slotted[pair]
    place = (row[seen] * FOLDS + fold[seen]) * SLOTS + rank[pair[seen]]
    parts = np.bincount(place, minlength=len(keys) * FOLDS * SLOTS).astype(np.int32)
    part_totals = np.bincount(row * FOLDS + fold, minlength=len(keys) * FOLDS).astype(np.int32)
    table = Table(*map(torch.from_numpy, (keys, followers, counts, totals.astype(np.int32))))
    return table, Shares(
        torch.from_numpy(parts).view(-1, FOLDS, SLOTS), torch.from_numpy(part_totals).view(-1, FOLDS)
    )


def _find(table: Table, keys: Tensor) -> tuple[Tensor, Tensor]:
    """The row of each key, and whether it is there."""
    row = torch.searchsorted(table.keys, keys).clamp_(max=len(table.keys) - 1)
    return row, table.keys[row] == keys


def _unpacked(table: Table, row: int) -> dict[int, int]:
    """A row as {follower: count}; what the slots had no room for is the count of -1."""
    pairs = zip(table.followers[row].tolist(), table.counts[row].tolist(), strict=True)
    known = {follower: times for follower, times in pairs if times}
    return {**known, -1: int(table.totals[row]) - sum(known.values())}


def packed(counts: Counts) -> dict[str, Tensor]:
    """The tables as tensors for a file; a count above 255 says no more than 255 (see `votes.COUNT_STEPS`)."""
    return {
        f"{k}.{name}": tensor.clamp(max=255).to(torch.uint8) if name == "counts" else tensor
        for k, table in enumerate(counts.tables)
        for name, tensor in table._asdict().items()
    }


def unpacked(runs: Sequence[Run], tensors: dict[str, Tensor]) -> Counts:
    """What `packed` packed.

    Raises: UserError if these are no tables of `runs`.
    """
    kinds = {"keys": torch.int64, "followers": torch.uint8, "counts": torch.uint8, "totals": torch.int32}
    if set(tensors) != {f"{k}.{name}" for k in range(len(runs)) for name in kinds}:
        raise UserError("the tables of counts in it are not those of its architecture")
    tables = []
    for k in range(len(runs)):
        parts = {name: tensors[f"{k}.{name}"] for name in kinds}
        rows = parts["keys"].numel()
        for name, kind in kinds.items():
            wanted = (rows, SLOTS) if name in ("followers", "counts") else (rows,)
            if not rows or parts[name].dtype != kind or tuple(parts[name].shape) != wanted:
                raise UserError(
                    f"the {name} of table {k} in it are {tuple(parts[name].shape)} {parts[name].dtype}"
                )
        if not bool((parts["keys"][1:] > parts["keys"][:-1]).all()):
            raise UserError(f"the keys of table {k} of counts in it are not in order")
        tables.append(Table(parts["keys"], parts["followers"], parts["counts"].int(), parts["totals"]))
    return Counts(runs, tables)
