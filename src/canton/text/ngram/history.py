"""N-gram statistics of the text just read.

Texts repeat names and phrases (Kuhn & De Mori 1990; Grave et al. 2017, arXiv:1612.04426). At each
position the current n-gram is searched for in the last `size` bytes. The bytes that followed its latest
`MAX_FOLLOWERS` occurrences are the statistics, the latest first. The model's state carries the bytes; nothing
else is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from canton.text.corpus import Batch, ContiguousBatches
from canton.text.ngram.keys import NgramKind, ages, compute_keys
from canton.text.types import MAX_FOLLOWERS, START_BYTE, Bytes, NgramStats

PREFETCH_BYTES = 1 << 14
"""Bytes of a stream that `PrefetchedHistory` searches at a time."""


class NgramHistory(NamedTuple):
    """A search for n-grams in the bytes just read.

    Attributes:
        kinds: the kinds of n-gram.
        size: bytes that are searched.
        lookback: bytes before those that keys may depend on.
    """

    kinds: Sequence[NgramKind]
    size: int
    lookback: int

    def look_up(self, window: Tensor, age: Tensor | None = None) -> NgramStats:
        """Return the statistics at N = T * B positions, the last T of `window`, (lookback + size + T, B).

        The counts are ranks: 1 for the follower of the latest occurrence, 2 for the one before, and so on.

        Args:
            window: bytes.
            age: (size + T, B), bytes since the text's start, before which nothing is found. None: no start.
        """
        window, age = window.cpu().long(), None if age is None else age.cpu()
        return self._search(window, age, self.size)

    def look_up_documents(self, text: Tensor) -> NgramStats:
        """Return the statistics at all T * B positions of texts (T, B), each by itself.

        They are those of `look_up` after a state of zeros, of which only the last few can be found.
        """
        before = min(self.size, MAX_FOLLOWERS)
        zeros = torch.zeros(self.lookback + before, text.shape[1], dtype=torch.long)
        return self._search(torch.cat([zeros, text.cpu().long()]), None, before)

    def _search(self, window: Tensor, age: Tensor | None, before: int) -> NgramStats:
        """Return the statistics of `window`, (lookback + before + T, B), at its last T rows."""
        all_keys = compute_keys(window, self.lookback, self.kinds, age)
        found = [self._latest(window, keys, age, before) for keys in all_keys]
        followers, totals = (torch.stack(parts, 2).flatten(0, 1) for parts in zip(*found, strict=True))
        return rank_stats(followers, totals)

    def _latest(self, window: Tensor, keys: Tensor, age: Tensor | None, before: int) -> tuple[Tensor, Tensor]:
        """Return the followers (T, B, MAX_FOLLOWERS), the latest first, and their number (T, B)."""
        ordered, place = keys.sort(dim=0, stable=True)  # puts equal keys side by side, the earlier first
        reach = None if age is None else age.gather(0, place).clamp_(max=self.size)
        steps, batch = len(keys) - before, keys.shape[1]
        followers = torch.zeros(steps, batch, MAX_FOLLOWERS, dtype=torch.uint8)
        totals = torch.zeros(steps, batch, dtype=torch.int32)
        for rank in range(1, MAX_FOLLOWERS + 1):
            here, former = place[rank:], place[:-rank]
            farthest = self.size if reach is None else reach[rank:]
            same = (ordered[rank:] == ordered[:-rank]) & (here >= before) & (here - former <= farthest)
            _, stream = same.nonzero(as_tuple=True)
            if not len(stream):
                break
            at, earlier = here[same] - before, former[same]
            followers[at, stream, rank - 1] = window[self.lookback + earlier + 1, stream].to(torch.uint8)
            totals[at, stream] += 1
        return followers, totals


class PrefetchedHistory:
    """The batches of a corpus with the statistics of the history (`Batch.history`).

    A training step reads a few bytes of each stream. A search of the whole history at every step would cost
    more than the step. Therefore a stream is searched once per `PREFETCH_BYTES`. The history before a
    stream's start is the text before it; before the first byte of the text it is zeros. Nothing is found
    before a start of the batches.
    """

    def __init__(self, batches: ContiguousBatches, history: NgramHistory) -> None:
        self.batches, self.history = batches, history
        length = batches.sequence_length
        self.block = min(PREFETCH_BYTES, batches.stream_size) // length * length
        self._block: tuple[int, int] | None = None
        self._followers, self._totals = torch.zeros(0), torch.zeros(0)

    def __call__(self, step: int) -> Batch:
        """Return the batch of a step."""
        batch, length = self.batches(step), self.batches.sequence_length
        epoch, offset = self.batches.position(step)
        block, within = divmod(offset, self.block)
        if self._block != (epoch, block):
            self._search(step - within // length)
            self._block = epoch, block
        part = slice(within, within + length)
        followers, totals = self._followers[part].flatten(0, 1), self._totals[part].flatten(0, 1)
        return batch._replace(history=rank_stats(followers, totals))

    def _search(self, first: int) -> None:
        """Search the block that starts with step `first`."""
        columns = [self._window(start) for start in self.batches.positions(first)]
        size, block = self.history.size, self.block + self.batches.sequence_length
        starts = self.batches.starts(first, -size, block)
        age = None
        if starts is not None:
            full = np.concatenate([np.zeros((self.history.lookback, starts.shape[1]), bool), starts])
            for column, here in zip(columns, full.T, strict=True):
                column[here] = START_BYTE
            age = ages(torch.from_numpy(starts))
        stats = self.history.look_up(torch.from_numpy(np.stack(columns, axis=1)), age)
        shape = (-1, len(columns), len(self.history.kinds))
        self._followers, self._totals = stats.followers.view(*shape, MAX_FOLLOWERS), stats.totals.view(shape)

    def _window(self, start: int) -> Bytes:
        batches, full_size = self.batches, self.history.lookback + self.history.size
        # A stream wraps around: a history longer than this would hold bytes that the stream has not read yet.
        size = min(full_size, start, batches.corpus.split - batches.stream_size)
        text = batches.read(start, self.block + batches.sequence_length)
        return np.concatenate(
            [np.zeros(full_size - size, np.uint8), batches.corpus.read(start - size, start), text]
        )


def rank_stats(followers: Tensor, totals: Tensor) -> NgramStats:
    """Return followers (N, K, MAX_FOLLOWERS), of which the first `totals` (N, K) are valid, as statistics."""
    ranks = torch.arange(1, MAX_FOLLOWERS + 1, dtype=torch.int32)
    return NgramStats(followers, ranks * (ranks <= totals[..., None]), totals)
