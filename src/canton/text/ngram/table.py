"""N-gram tables: which bytes followed each n-gram of the training text, counted before training.

The mixer (`canton.text.ngram.mixer`) adds these counts to the network's logits, so the network need not store
them.

The counts include the bytes that the network trains to predict. Therefore the text is cut into `NUM_FOLDS`
folds, and each row stores the counts of every fold. A network that trains in a fold gets the counts of the
other folds. Leaving out only the byte itself is not enough: a text repeats itself nearby, so the counts of
long n-grams would still be too high.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from canton.errors import UserError
from canton.text.corpus import NUM_FOLDS
from canton.text.ngram.keys import NgramKind, compute_keys
from canton.text.types import MAX_FOLLOWERS, Bytes, NgramStats

CHUNK = 1 << 18
"""Bytes whose keys are computed at a time, to limit memory."""


class NgramTable(NamedTuple):
    """The counts of one kind of n-gram, R rows in ascending order of `keys`.

    Attributes:
        keys: int64 (R,), see `canton.text.ngram.keys`.
        followers: uint8 (R, MAX_FOLLOWERS), the most frequent first.
        counts: int32 (R, MAX_FOLLOWERS).
        totals: int32 (R,), including followers beyond the first `MAX_FOLLOWERS`.
    """

    keys: Tensor
    followers: Tensor
    counts: Tensor
    totals: Tensor


class FoldCounts(NamedTuple):
    """The counts of each fold in an `NgramTable`.

    Attributes:
        counts: int32 (R, NUM_FOLDS, MAX_FOLLOWERS).
        totals: int32 (R, NUM_FOLDS).
    """

    counts: Tensor
    totals: Tensor


class NgramTables:
    """The tables of several kinds of n-gram, from `count_ngrams`.

    Args:
        kinds: the kinds of n-gram.
        tables: a table for each.
        fold_counts: the counts of the folds, needed during training. None: after training.
    """

    def __init__(
        self,
        kinds: Sequence[NgramKind],
        tables: Sequence[NgramTable],
        fold_counts: Sequence[FoldCounts] | None = None,
    ) -> None:
        self.kinds, self.tables, self.fold_counts = tuple(kinds), list(tables), fold_counts
        self.updates: list[dict[int, dict[int, int]]] = [{} for _ in self.kinds]

    def look_up(
        self, window: Tensor, lookback: int, folds: Tensor | None = None, age: Tensor | None = None
    ) -> NgramStats:
        """Return the statistics at N = T * B positions, the bytes of `window` from `lookback` on.

        Args:
            window: int64 bytes (lookback + T, B).
            lookback: bytes before the first position.
            folds: (T, B), the fold whose counts are excluded; `NUM_FOLDS` or more: none.
            age: see `compute_keys`.
        """
        found = []
        for k, (keys, table) in enumerate(zip(self._keys(window, lookback, age), self.tables, strict=True)):
            row, known = _find(table, keys)
            counts, totals = table.counts[row], table.totals[row]
            if folds is not None and self.fold_counts is not None:
                fold = folds.flatten().cpu()
                inside, fold = fold < NUM_FOLDS, fold.clamp(max=NUM_FOLDS - 1)
                counts = counts - self.fold_counts[k].counts[row, fold] * inside[:, None]
                totals = totals - self.fold_counts[k].totals[row, fold] * inside
            stats = NgramStats(table.followers[row], counts * known[:, None], totals * known)
            found.append(self._updated(k, keys, stats) if self.updates[k] else stats)
        return NgramStats(*(torch.stack(parts, 1) for parts in zip(*found, strict=True)))

    def update(self, window: Tensor, lookback: int, targets: Tensor, *, weight: int = 1) -> None:
        """Count more text: `targets` (T,) are the bytes after those of `window`, (lookback + T, 1).

        Args:
            window: int64 bytes.
            lookback: bytes before the first position.
            targets: the bytes that followed.
            weight: number of times that each counts.
        """
        followers = targets.tolist()
        for k, (keys, table) in enumerate(zip(self._keys(window, lookback), self.tables, strict=True)):
            row, known = _find(table, keys)
            updates = self.updates[k]
            for key, at, in_table, follower in zip(
                keys.tolist(), row.tolist(), known.tolist(), followers, strict=True
            ):
                if key not in updates:
                    updates[key] = _row_counts(table, at) if in_table else {}
                updates[key][follower] = updates[key].get(follower, 0) + weight

    def _keys(self, window: Tensor, lookback: int, age: Tensor | None = None) -> list[Tensor]:
        age = None if age is None else age.cpu()
        return [keys.flatten() for keys in compute_keys(window.cpu(), lookback, self.kinds, age)]

    def _updated(self, k: int, keys: Tensor, stats: NgramStats) -> NgramStats:
        rows = self.updates[k]
        places = [place for place, key in enumerate(keys.tolist()) if key in rows]
        if not places:
            return stats
        found = [rows[key] for key in keys[places].tolist()]
        best = [
            sorted((pair for pair in row.items() if pair[0] >= 0), key=_by_count)[:MAX_FOLLOWERS]
            for row in found
        ]
        pairs = torch.tensor([each + [(0, 0)] * (MAX_FOLLOWERS - len(each)) for each in best])
        followers, counts, totals = (part.clone() for part in stats)
        followers[places] = pairs[..., 0].to(torch.uint8)
        counts[places] = pairs[..., 1].clamp(max=2**31 - 1).int()
        totals[places] = torch.tensor([min(sum(row.values()), 2**31 - 1) for row in found], dtype=torch.int32)
        return NgramStats(followers, counts, totals)


def count_ngrams(text: Bytes, kinds: Sequence[NgramKind], rows: int) -> NgramTables:
    """Count what follows each n-gram of `text`, per fold; keep the `rows` most frequent of each kind."""
    targets = text[1:].astype(np.int64)
    fold = np.arange(1, len(text)) * NUM_FOLDS // len(text)
    lookback = max(kind.lookback for kind in kinds)
    padded = torch.from_numpy(np.concatenate([np.zeros(lookback, np.uint8), text[:-1]]))
    tables: dict[NgramKind, tuple[NgramTable, FoldCounts]] = {}
    # one kind at a time to limit memory; the kinds of words share the search for words
    words = [kind for kind in kinds if kind.words]
    for group in [*([kind] for kind in kinds if not kind.words), *([words] if words else [])]:
        chunks = [
            compute_keys(padded[start : start + CHUNK + lookback].long()[:, None], lookback, group)
            for start in range(0, len(targets), CHUNK)
        ]
        for kind, parts in zip(group, zip(*chunks, strict=True), strict=True):
            tables[kind] = _count(torch.cat(parts)[:, 0].numpy(), targets, fold, rows)
    return NgramTables(kinds, [tables[kind][0] for kind in kinds], [tables[kind][1] for kind in kinds])


def _count(
    keys_at: np.ndarray, targets: np.ndarray, fold: np.ndarray, rows: int
) -> tuple[NgramTable, FoldCounts]:
    keys, row = np.unique(keys_at, return_inverse=True)
    totals = np.bincount(row, minlength=len(keys))
    if len(keys) > rows:
        selected = np.sort(np.argsort(-totals, kind="stable")[:rows])
        place = np.full(len(keys), -1)
        place[selected] = np.arange(rows)
        here = place[row] >= 0
        keys, totals = keys[selected], totals[selected]
        row, targets, fold = place[row[here]], targets[here], fold[here]
    pairs, pair, times = np.unique(row << 8 | targets, return_inverse=True, return_counts=True)
    owner = pairs >> 8
    order = np.lexsort((-times, owner))
    rank = np.empty(len(pairs), np.int64)
    rank[order] = np.arange(len(pairs)) - np.searchsorted(owner[order], owner[order])
    stored = rank < MAX_FOLLOWERS
    followers = np.zeros((len(keys), MAX_FOLLOWERS), np.uint8)
    counts = np.zeros((len(keys), MAX_FOLLOWERS), np.int32)
    followers[owner[stored], rank[stored]] = pairs[stored] & 255
    counts[owner[stored], rank[stored]] = times[stored]
    valid = stored[pair]
    place = (row[valid] * NUM_FOLDS + fold[valid]) * MAX_FOLLOWERS + rank[pair[valid]]
    parts = np.bincount(place, minlength=len(keys) * NUM_FOLDS * MAX_FOLLOWERS).astype(np.int32)
    part_totals = np.bincount(row * NUM_FOLDS + fold, minlength=len(keys) * NUM_FOLDS).astype(np.int32)
    table = NgramTable(*map(torch.from_numpy, (keys, followers, counts, totals.astype(np.int32))))
    return table, FoldCounts(
        torch.from_numpy(parts).view(-1, NUM_FOLDS, MAX_FOLLOWERS),
        torch.from_numpy(part_totals).view(-1, NUM_FOLDS),
    )


def _find(table: NgramTable, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Return the row of each key, and whether the table holds it."""
    row = torch.searchsorted(table.keys, keys).clamp_(max=len(table.keys) - 1)
    return row, table.keys[row] == keys


def _by_count(pair: tuple[int, int]) -> int:
    return -pair[1]


def _row_counts(table: NgramTable, row: int) -> dict[int, int]:
    """Return a row as {follower: count}; -1 has the count of all followers that are not stored."""
    pairs = zip(table.followers[row].tolist(), table.counts[row].tolist(), strict=True)
    known = {follower: count for follower, count in pairs if count}
    return {**known, -1: int(table.totals[row]) - sum(known.values())}


def pack_tables(ngrams: NgramTables) -> dict[str, Tensor]:
    """Return the tables as tensors for a file. Counts are clipped to 255; the last bucket starts at 128."""
    return {
        f"{k}.{name}": tensor.clamp(max=255).to(torch.uint8) if name == "counts" else tensor
        for k, table in enumerate(ngrams.tables)
        for name, tensor in table._asdict().items()
    }


def unpack_tables(kinds: Sequence[NgramKind], tensors: dict[str, Tensor]) -> NgramTables:
    """Return the tables that `pack_tables` packed.

    Raises:
        UserError: the tensors are not tables of these kinds.
    """
    dtypes = {"keys": torch.int64, "followers": torch.uint8, "counts": torch.uint8, "totals": torch.int32}
    if set(tensors) != {f"{k}.{name}" for k in range(len(kinds)) for name in dtypes}:
        raise UserError("the n-gram tables do not match the architecture")
    tables = []
    for k in range(len(kinds)):
        parts = {name: tensors[f"{k}.{name}"] for name in dtypes}
        rows = parts["keys"].numel()
        for name, dtype in dtypes.items():
            shape = (rows, MAX_FOLLOWERS) if name in ("followers", "counts") else (rows,)
            found = parts[name]
            if not rows or found.dtype != dtype or tuple(found.shape) != shape:
                raise UserError(
                    f"{name} of n-gram table {k} must be {shape} {dtype}, "
                    f"got {tuple(found.shape)} {found.dtype}"
                )
        if not bool((parts["keys"][1:] > parts["keys"][:-1]).all()) or int(parts["keys"][0]) < 0:
            raise UserError(f"keys of n-gram table {k} must be >= 0 and in ascending order")
        if int(parts["totals"].min()) < 1:
            raise UserError(f"totals of n-gram table {k} must be >= 1, got {int(parts['totals'].min())}")
        tables.append(NgramTable(parts["keys"], parts["followers"], parts["counts"].int(), parts["totals"]))
    return NgramTables(kinds, tables)
