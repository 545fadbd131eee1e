"""Batches of windows, each a function of its step's number, made ahead by a pool of workers."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain, count, islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from canton.track.data.augment import Window
from canton.track.data.workers import made_ahead
from canton.track.model import Architecture
from canton.track.targets import Target, make_target

Draw = Callable[[np.random.Generator, int, int], Window]
"""(chance, frames, size in px) -> a window."""


class Batch(NamedTuple):
    """frames (T, B, H, W, 3) uint8; target: (T, B, ...); fresh: the memory starts empty; reset (T, B): where
    the picture is cut, None where it is nowhere.
    """

    frames: Tensor
    target: Target
    fresh: bool
    reset: Tensor | None


class Batches(Dataset[list[Batch]]):
    """The batches of a run, by blocks: a block of windows, each of `pieces` times `length` frames, is
    learned from in so many steps, the state carried on from one to the next (truncated backpropagation
    through time).

    Args:
        draw: gives a window.
        size: px of the side of a window.
        rows: windows side by side; those of this process are `rank`, `rank + world` ...
        singles: of the first so many blocks every frame is a window of its own, the memory empty: what things
            look like is learned quickest from many different frames.
    """

    def __init__(
        self,
        draw: Draw,
        architecture: Architecture,
        *,
        sought: str,
        size: int,
        rows: int,
        length: int,
        pieces: int,
        seed: int,
        singles: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.draw, self.architecture, self.sought, self.size = draw, architecture, sought, size
        self.rows, self.length, self.pieces = range(rank, rows, world), length, pieces
        self.seed, self.singles = seed, singles

    def __getitem__(self, block: int) -> list[Batch]:
        def windows(piece: int, length: int) -> list[Window]:
            chance = ((self.seed, block, row, piece) for row in self.rows)
            return [self.draw(np.random.default_rng(key), length, self.size) for key in chance]

        if block >= self.singles:
            whole = windows(0, self.length * self.pieces)
            return [
                self._batch(whole, slice(k * self.length, (k + 1) * self.length), fresh=k == 0)
                for k in range(self.pieces)
            ]
        frames = [
            [window for t in range(self.length) for window in windows(k * self.length + t, 1)]
            for k in range(self.pieces)
        ]
        return [self._batch(ones, slice(0, 1), fresh=True) for ones in frames]

    def _batch(self, windows: list[Window], part: slice, *, fresh: bool) -> Batch:
        cells = (self.architecture.cells(self.size),) * 2
        frames = torch.from_numpy(np.stack([window.frames[part] for window in windows], 1))
        targets = [
            make_target(window.named[part], cells, self.architecture, sought=self.sought)
            for window in windows
        ]
        target = Target(*(torch.stack(parts, 1) for parts in zip(*targets, strict=True)))
        cuts = torch.from_numpy(np.stack([window.cuts[part] for window in windows], 1))
        if fresh:
            cuts[0] = False  # it starts afresh anyway
        return Batch(frames, target, fresh, cuts if bool(cuts.any()) else None)


def to_model(batch: Batch) -> Tensor:
    """The batch's frames as a model takes them."""
    return batch.frames.movedim(-1, 2).float().div_(255)


def ahead(batches: Batches, first: int, *, workers: int) -> Callable[[int], Batch]:
    """The batch of a step, steps asked for in order from `first`; `workers` processes make them beforehand,
    with none they are made when asked for.
    """
    blocks = made_ahead(batches, count(first // batches.pieces), workers=workers)
    made = islice(chain.from_iterable(blocks), first % batches.pieces, None)
    return lambda step: next(made)
