"""Training batches, prepared by worker processes. A batch depends on its step number only."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain, count, islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from canton.track.data.augment import Window
from canton.track.data.workers import prefetch
from canton.track.model import Architecture
from canton.track.targets import Target, make_target
from canton.track.train_config import TrainConfig

WindowSampler = Callable[[np.random.Generator, int, int], Window]
"""(rng, frames, size in px) -> a window."""


class Batch(NamedTuple):
    """A batch of windows.

    Attributes:
        frames: (T, B, H, W, 3) uint8.
        target: (T, B, ...).
        state_reset: whether it starts with an empty state.
        reset: (T, B), True at a cut of the video; None without cuts.
    """

    frames: Tensor
    target: Target
    state_reset: bool
    reset: Tensor | None


class Batches(Dataset[list[Batch]]):
    """The batches of a run, by blocks.

    A block is `config.batch_size` windows of `config.tbptt_chunks` chunks. Each chunk is one step, and the
    state is carried from one to the next (truncated backpropagation through time). In the first
    `config.single_frame_steps` steps every frame is a window of its own.

    Args:
        sample: returns a random window.
        architecture: the network that the targets are for.
        rank, world_size: this process gets the rows `rank`, `rank + world_size` ... of the batch.
    """

    def __init__(
        self,
        sample: WindowSampler,
        architecture: Architecture,
        config: TrainConfig,
        *,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.sample, self.architecture, self.config = sample, architecture, config
        self.rows = range(rank, config.batch_size, world_size)

    def __getitem__(self, block: int) -> list[Batch]:
        config, length = self.config, self.config.frames_per_step

        def windows(part: int, frames: int) -> list[Window]:
            keys = ((config.seed, block, row, part) for row in self.rows)
            return [self.sample(np.random.default_rng(key), frames, config.crop_size) for key in keys]

        chunks = range(config.tbptt_chunks)
        if block * config.tbptt_chunks >= config.single_frame_steps:
            whole = windows(0, config.window_frames)
            return [
                self._batch(whole, slice(k * length, (k + 1) * length), state_reset=k == 0) for k in chunks
            ]
        frames = [[window for t in range(length) for window in windows(k * length + t, 1)] for k in chunks]
        return [self._batch(single, slice(0, 1), state_reset=True) for single in frames]

    def _batch(self, windows: list[Window], part: slice, *, state_reset: bool) -> Batch:
        cells = (self.architecture.cells(self.config.crop_size),) * 2
        frames = torch.from_numpy(np.stack([window.frames[part] for window in windows], 1))
        targets = [
            make_target(
                window.boxes[part],
                cells,
                self.architecture,
                target_class=self.config.target_class,
                labelled=None if window.labelled is None else window.labelled[part],
            )
            for window in windows
        ]
        target = Target(*(torch.stack(parts, 1) for parts in zip(*targets, strict=True)))
        cuts = torch.from_numpy(np.stack([window.cuts[part] for window in windows], 1))
        if state_reset:
            cuts[0] = False  # the state is empty anyway
        return Batch(frames, target, state_reset, cuts if bool(cuts.any()) else None)


def batch_to_input(batch: Batch) -> Tensor:
    """Return the batch's frames as the model's input, (T, B, 3, H, W) in [0, 1]."""
    return batch.frames.movedim(-1, 2).float().div_(255)


def prefetch_batches(batches: Batches, first: int, *, workers: int) -> Callable[[int], Batch]:
    """Return a function from a step number to its batch. Call it for the steps in order, from `first`.

    `workers` processes prepare the batches ahead. With 0 this process prepares them on demand.
    """
    blocks = prefetch(batches, count(first // batches.config.tbptt_chunks), workers=workers)
    batch = islice(chain.from_iterable(blocks), first % batches.config.tbptt_chunks, None)
    return lambda step: next(batch)
