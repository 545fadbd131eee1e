"""Text to train on: files of any size as one sequence of bytes, cut into contiguous batches."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from canton.errors import UserError
from canton.text.sources import Sources
from canton.text.types import Bytes, NgramStats

NUM_FOLDS = 8
"""Folds of the text that the n-gram tables count, see `canton.text.ngram.table`."""

MAX_COUNTED = 1 << 23
COUNTED_BLOCKS = 128
"""The n-gram tables count at most `MAX_COUNTED` bytes, in this many blocks from the whole training part."""

RESTART_SEARCH = 1024
"""Bytes in which a restart looks for the next paragraph or line."""

BUILT_IN = "the language documentation in this Python (pydoc_data.topics)"


class Batch(NamedTuple):
    """The bytes of one step.

    Attributes:
        window: uint8 (T + 1, B); the last row is a target only.
        state_reset: whether the streams start at new offsets, so that the state must be reset.
        folds: (T, B), the fold of each target in the counted text; `NUM_FOLDS` or more: none.
        starts: booleans (T, B), where a new text starts, see `ByteModel.forward`; None: nowhere.
        history: statistics of the history, if `PrefetchedHistory` added them.
    """

    window: Tensor
    state_reset: bool
    folds: Tensor
    starts: Tensor | None = None
    history: NgramStats | None = None


class Corpus:
    """The bytes of files as one text. It may be of any size: little of it is in memory.

    Args:
        files: files, folders and `-`, see `canton.text.sources.Sources`; none for `BUILT_IN`.
        train_fraction: fraction of the bytes to train on, in (0, 1). The rest is held out.
        glob, field: see `canton.text.sources.Sources`.

    Attributes:
        hints: one line for each file that is probably no text.

    Raises:
        UserError: a file cannot be read, see `canton.text.sources.Sources`, or a part has no bytes.
    """

    def __init__(
        self,
        files: Sequence[Path] = (),
        *,
        train_fraction: float = 0.9,
        glob: str = "*",
        field: str = "text",
    ) -> None:
        source = Sources(files, glob=glob, field=field) if files else None
        built_in = np.zeros(0, np.uint8) if source else _built_in()
        self._read = source.read if source else lambda start, stop: built_in[start:stop]
        self._size = len(source) if source else len(built_in)
        self._starts = source.starts if source else np.zeros(1, np.int64)
        self.hints = source.hints if source else []
        self.names = [str(file) for file in files] or [BUILT_IN]
        self.split = int(len(self) * train_fraction)
        if not (0 < train_fraction < 1 and 0 < self.split < len(self) - 1):
            raise UserError(
                f"train_fraction must leave bytes in both parts of {len(self)} bytes, got {train_fraction}: "
                "give more text"
            )

    def __len__(self) -> int:
        return self._size

    def read(self, start: int, stop: int) -> Bytes:
        """Return the bytes from `start` to `stop`, not included."""
        return self._read(start, stop)

    def starts(self, start: int, stop: int) -> npt.NDArray[np.bool_] | None:
        """Return before which of the bytes from `start` to `stop` a document starts; None: before none."""
        low, high = np.searchsorted(self._starts, (start, stop))
        if low == high:
            return None
        found = np.zeros(stop - start, np.bool_)
        found[self._starts[low:high] - start] = True
        return found

    def digest(self) -> str:
        """Return the SHA-256 of all bytes, in hexadecimal."""
        digest = hashlib.sha256()
        for start in range(0, len(self), 1 << 24):
            digest.update(self.read(start, min(start + (1 << 24), len(self))).tobytes())
        return digest.hexdigest()


class ContiguousBatches:
    """Batches of a corpus's training part; each row continues the same row of the previous batch.

    The part is cut into `batch_size` streams of equal length. A batch is a function of the step's number and
    the seed. In every later epoch all streams are shifted by one random offset; they wrap around at the
    part's end.

    Args:
        corpus: the text.
        batch_size: number of streams, over all processes.
        sequence_length: bytes of each stream per step.
        restart_bytes: mean distance of the restarts in each stream; 0: none. A restart empties the state, as
            at the start of a text. It is random, moved to the next paragraph or line.
        seed: of the offsets and restarts.
        rank, world_size: this process and their number; each reads its share of the streams.

    Raises:
        UserError: the part is too short for one step, or `batch_size` is not a multiple of `world_size`.
    """

    def __init__(
        self,
        corpus: Corpus,
        *,
        batch_size: int,
        sequence_length: int,
        restart_bytes: int = 0,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("sequence_length", sequence_length)):
            if value < 1:
                raise UserError(f"{name} must be >= 1, got {value}")
        if batch_size % world_size:
            raise UserError(
                f"batch_size must be a multiple of the number of processes ({world_size}), got {batch_size}"
            )
        self.stream_size = corpus.split // batch_size
        if self.stream_size < sequence_length + 1:
            raise UserError(
                f"batch_size * (sequence_length + 1) must be <= {corpus.split}, the bytes to train on, "
                f"got {batch_size} * ({sequence_length} + 1): give more text, or reduce one of them"
            )
        self.corpus, self.sequence_length, self.seed = corpus, sequence_length, seed
        self.restart_bytes = restart_bytes
        self._restart_at = lru_cache(maxsize=1 << 16)(self._find_restart)
        self.streams = range(rank * batch_size // world_size, (rank + 1) * batch_size // world_size)
        self.steps_per_epoch = (self.stream_size - 1) // sequence_length

    def __call__(self, step: int) -> Batch:
        """Return the batch of a step."""
        positions = self.positions(step)
        columns = [self.read(start, self.sequence_length + 1) for start in positions]
        window = torch.from_numpy(np.stack(columns, axis=1))
        starts = self.starts(step, 0, self.sequence_length)
        marked = None if starts is None or not starts.any() else torch.from_numpy(starts)
        return Batch(window, self.position(step)[1] == 0, self._folds(positions), marked)

    def position(self, step: int) -> tuple[int, int]:
        """Return a step's epoch and its offset in each stream, in bytes."""
        epoch, within = divmod(step, self.steps_per_epoch)
        return epoch, within * self.sequence_length

    def positions(self, step: int) -> list[int]:
        """Return each stream's position in the corpus at a step."""
        epoch, offset = self.position(step)
        return [self._position(k, epoch, offset) for k in self.streams]

    def starts(self, step: int, begin: int, end: int) -> npt.NDArray[np.bool_] | None:
        """Return where a text starts in the bytes from `begin` to `end` of a step, (bytes, streams).

        The byte at a start is the last one of the text before. None: nowhere.
        """
        epoch, offset = self.position(step)
        found = np.zeros((end - begin, len(self.streams)), np.bool_)
        for column, stream in enumerate(self.streams):
            first = self._position(stream, epoch, offset) + begin
            at, stop = max(first, 0), first + end - begin
            while at < stop:
                here = at % self.corpus.split
                size = min(stop - at, self.corpus.split - here)
                documents = self.corpus.starts(here + 1, here + size + 1)
                if documents is not None:
                    found[at - first : at - first + size, column] = documents
                if here + size == self.corpus.split:  # the stream wraps around to the first document
                    found[at - first + size - 1, column] = True
                at += size
        if not self.restart_bytes:
            return found if found.any() else None
        low, high = max(offset + begin, 0), offset + end
        blocks = range(max(low - RESTART_SEARCH, 0) // self.restart_bytes, -(-high // self.restart_bytes))
        for column, stream in enumerate(self.streams):
            for block in blocks:
                at = self._restart_at(stream, epoch, block)
                if low <= at < high:
                    found[at - offset - begin, column] = True
        return found

    def _find_restart(self, stream: int, epoch: int, block: int) -> int:
        """Return the offset in a stream of the restart in a block of `restart_bytes`."""
        random = np.random.default_rng([self.seed, epoch, stream, block])
        offset = block * self.restart_bytes + int(random.integers(self.restart_bytes))
        text = self.read(self._position(stream, epoch, offset), RESTART_SEARCH).tobytes()
        for boundary in (b"\n\n", b"\n"):
            if (at := text.find(boundary)) >= 0:
                return offset + at + len(boundary) - 1
        return offset

    def _position(self, stream: int, epoch: int, offset: int) -> int:
        return (stream * self.stream_size + self._shift(epoch) + offset) % self.corpus.split

    def _shift(self, epoch: int) -> int:
        return int(np.random.default_rng([self.seed, epoch]).integers(self.corpus.split)) if epoch else 0

    def read(self, start: int, size: int) -> Bytes:
        """Return `size` bytes of the training part from `start` on, wrapping around at its end."""
        head = self.corpus.read(start, min(start + size, self.corpus.split))
        missing = size - len(head)
        return np.concatenate([head, self.corpus.read(0, missing)]) if missing else head

    def _folds(self, first: list[int]) -> Tensor:
        positions = torch.tensor(first) + torch.arange(1, self.sequence_length + 1)[:, None]
        return counted_folds(positions % self.corpus.split, self.corpus.split)


def counted_text(corpus: Corpus) -> Bytes:
    """Return the bytes of the training part that the n-gram tables count.

    Of a part longer than `MAX_COUNTED` they are `COUNTED_BLOCKS` blocks of equal size and distance.
    """
    if corpus.split <= MAX_COUNTED:
        return corpus.read(0, corpus.split)
    size = MAX_COUNTED // COUNTED_BLOCKS
    begins = [-(-k * corpus.split // COUNTED_BLOCKS) for k in range(COUNTED_BLOCKS)]
    return np.concatenate([corpus.read(begin, begin + size) for begin in begins])


def counted_folds(positions: Tensor, split: int) -> Tensor:
    """Return the fold of each position in the counted text; `NUM_FOLDS`: it was not counted.

    Args:
        positions: int64, in [0, split).
        split: size of the training part.
    """
    if split <= MAX_COUNTED:
        return positions * NUM_FOLDS // split
    block = positions * COUNTED_BLOCKS // split
    begin = -(-block * split // COUNTED_BLOCKS)
    counted = positions - begin < MAX_COUNTED // COUNTED_BLOCKS
    return torch.where(counted, block * NUM_FOLDS // COUNTED_BLOCKS, NUM_FOLDS)


def _built_in() -> Bytes:
    from pydoc_data.topics import topics

    return np.frombuffer("\n".join(topics[name] for name in sorted(topics)).encode(), np.uint8)
