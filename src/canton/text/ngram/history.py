"""What followed the same bytes, or the same words, a little earlier in the very text that is being read.

A text keeps to its names and turns of phrase, so what it has just used it will use again (Kuhn & De Mori
1990; Grave et al. 2017, arXiv:1612.04426). For each place: where did the run that ends here end before,
within the last `memory` bytes, and which byte came then? The latest `SLOTS` of these are told, the latest
first, and `canton.text.ngram.mixer` learns what they are worth. Nothing is stored but the bytes
themselves: they are part of the model's state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from canton.text.corpus import Batch, Bytes, Lanes
from canton.text.ngram.keys import Run, numbers
from canton.text.types import SLOTS, Evidence

BLOCK = 1 << 14
"""A lane is looked through so many bytes at a time, see `Reminded`."""


class Recall(NamedTuple):
    """Looks the `runs` up in the last `memory` bytes that were read; `reach` bytes before those are at
    hand.
    """

    runs: Sequence[Run]
    memory: int
    reach: int

    def look_up(self, window: Tensor) -> Evidence:
        """What followed earlier, for each of the last T bytes of `window`: (reach + memory + T, B) to N = T *
        B.

        The counts are ranks: 1 for the follower of the run's latest place, 2 for the one before, and so on.
        """
        window = window.cpu().long()
        found = [self._latest(window, keys) for keys in numbers(window, self.reach, self.runs)]
        followers, totals = (torch.stack(parts, 2).flatten(0, 1) for parts in zip(*found, strict=True))
        return ranked(followers, totals)

    def _latest(self, window: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Followers (T, B, SLOTS) and how many there are (T, B)."""
        ordered, place = keys.sort(dim=0, stable=True)  # equal runs side by side, the earlier first
        steps, batch = len(keys) - self.memory, keys.shape[1]
        followers = torch.zeros(steps, batch, SLOTS, dtype=torch.uint8)
        totals = torch.zeros(steps, batch, dtype=torch.int32)
        for rank in range(1, SLOTS + 1):
            here, before = place[rank:], place[:-rank]
            same = (
                (ordered[rank:] == ordered[:-rank]) & (here >= self.memory) & (here - before <= self.memory)
            )
            _, lane = same.nonzero(as_tuple=True)
            if not len(lane):
                break
            at, earlier = here[same] - self.memory, before[same]
            followers[at, lane, rank - 1] = window[self.reach + earlier + 1, lane].to(torch.uint8)
            totals[at, lane] += 1
        return followers, totals


class Reminded:
    """`lanes` whose batches also say what followed earlier in the text (`Batch.recent`).

    A model in training reads a few bytes a step: to look through its whole memory each time would cost more
    than to learn. So a lane is looked through once for each `BLOCK` bytes. What lies before a lane's start is
    the text that stands there; the bytes before the text's first are zeros.
    """

    def __init__(self, lanes: Lanes, recall: Recall) -> None:
        self.lanes, self.recall = lanes, recall
        self.block = min(BLOCK, lanes.lane) // lanes.length * lanes.length
        self._known: tuple[int, int] | None = None
        self._followers, self._totals = torch.zeros(0), torch.zeros(0)

    def __call__(self, step: int) -> Batch:
        batch = self.lanes(step)
        turn, offset = self.lanes.place(step)
        number, within = divmod(offset, self.block)
        if self._known != (turn, number):
            self._look(step - within // self.lanes.length)
            self._known = turn, number
        stretch = slice(within, within + self.lanes.length)
        followers, totals = self._followers[stretch].flatten(0, 1), self._totals[stretch].flatten(0, 1)
        return batch._replace(recent=ranked(followers, totals))

    def _look(self, first: int) -> None:
        """Look through the block that begins with step `first`."""
        lanes, recall = self.lanes, self.recall
        columns = [self._window(start) for start in lanes.starts(first)]
        evidence = recall.look_up(torch.from_numpy(np.stack(columns, axis=1)))
        shape = (-1, len(columns), len(recall.runs))
        self._followers, self._totals = evidence.followers.view(*shape, SLOTS), evidence.totals.view(shape)

    def _window(self, start: int) -> Bytes:
        lanes, wanted = self.lanes, self.recall.reach + self.recall.memory
        # never so far back that the lane, which goes round, would find there what it is still to read
        back = min(wanted, start, lanes.corpus.split - lanes.lane)
        text = lanes.read(start, self.block + lanes.length)
        return np.concatenate(
            [np.zeros(wanted - back, np.uint8), lanes.corpus.read(start - back, start), text]
        )


def ranked(followers: Tensor, totals: Tensor) -> Evidence:
    """Followers (N, K, SLOTS), the latest first, of which `totals` (N, K) are real, as evidence."""
    ranks = torch.arange(1, SLOTS + 1, dtype=torch.int32)
    return Evidence(followers, ranks * (ranks <= totals[..., None]), totals)
