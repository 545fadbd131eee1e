"""Bytes to learn from: files of any size, one after the other, cut into lanes that are read side by side.

With B lanes the training part is cut into B stretches; at every step each lane reads on where it stopped, so
the recurrent state goes with it. When the lanes are through, they start anew, somewhere else.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from canton.errors import UserError
from canton.io.atomic import os_error_reason
from canton.text.types import Evidence

Bytes = npt.NDArray[np.uint8]

FOLDS = 8
"""Into how many stretches the counted part is cut, see `canton.text.ngram.table`."""

COUNTED_MOST = 1 << 23
"""No more than this many bytes of the training part are counted, the first ones."""

BUILT_IN = "the language documentation in this Python (pydoc_data.topics)"


class Batch(NamedTuple):
    """One step's bytes, (T + 1, B) whole numbers, the last row being known only as an answer.

    `fresh`: the lanes have moved, so that the carried state no longer belongs to them. `folds`: (T, B), which
    of the `FOLDS` stretches of the counted part each answer lies in; `FOLDS` or more behind it. `recent`:
    what followed earlier in the text, if somebody looked (`canton.text.ngram.history.Reminded`).
    """

    window: Tensor
    fresh: bool
    folds: Tensor
    recent: Evidence | None = None


class Corpus:
    """The bytes of some files, one after the other. They are mapped, not read, so any size will do.

    The first `train_fraction` of the bytes is for training, the rest is held out.

    Args:
        files: paths; none for the text that lies in every Python, `BUILT_IN`.
        train_fraction: fraction of the bytes to train on, in (0, 1).

    Raises: UserError if a file is missing, closed to us, a directory or empty, or a part is
    empty.
    """

    def __init__(self, files: Sequence[Path] = (), *, train_fraction: float = 0.9) -> None:
        self._parts: list[Bytes] = [map_file(file) for file in files] or [_built_in()]
        self._ends = np.cumsum([len(part) for part in self._parts])
        self.names = [str(file) for file in files] or [BUILT_IN]
        self.split = int(len(self) * train_fraction)
        if not (0 < train_fraction < 1 and 0 < self.split < len(self) - 1):
            raise UserError(
                f"train_fraction {train_fraction} of {len(self)} bytes leaves a part empty: give more text"
            )

    def __len__(self) -> int:
        return int(self._ends[-1])

    def read(self, start: int, stop: int) -> Bytes:
        """Bytes `start` to `stop` (not included), across the files' borders."""
        pieces = []
        for end, part in zip(self._ends.tolist(), self._parts, strict=True):
            begin = end - len(part)
            if start < end and stop > begin:
                pieces.append(part[max(start - begin, 0) : stop - begin])
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces or [np.zeros(0, np.uint8)])

    def digest(self) -> str:
        """SHA-256 of all the bytes, in hexadecimal."""
        digest = hashlib.sha256()
        for part in self._parts:
            for start in range(0, len(part), 1 << 24):
                digest.update(part[start : start + (1 << 24)].tobytes())
        return digest.hexdigest()


class Lanes:
    """The training part of a corpus as batches, each a function of the step's number alone (and the seed).

    Lane b starts b lanes into the part; on later rounds all start points move by one random number, and
    reading goes round from the part's end to its beginning, so that no byte is always first or last.

    Args:
        batch: how many lanes, over all processes.
        length: how many bytes each lane reads at a step.
        rank, world: which of how many processes this is; each takes its share of the lanes.

    Raises: UserError if the part is too short for a single step, or the lanes cannot be shared evenly.
    """

    def __init__(
        self, corpus: Corpus, *, batch: int, length: int, seed: int = 0, rank: int = 0, world: int = 1
    ) -> None:
        for name, value in (("batch", batch), ("length", length)):
            if value < 1:
                raise UserError(f"{name} is {value}: it is a whole number of at least 1")
        if batch % world:
            raise UserError(f"batch is {batch}: {world} processes cannot share it evenly")
        self.lane = corpus.split // batch
        if self.lane < length + 1:
            raise UserError(
                f"the training part has {corpus.split} bytes, too few for {batch} lanes of {length} + 1: "
                f"give more text, or a smaller batch or length"
            )
        self.corpus, self.length, self.seed = corpus, length, seed
        self.mine = range(rank * batch // world, (rank + 1) * batch // world)
        self.steps_a_round = (self.lane - 1) // length

    def __call__(self, step: int) -> Batch:
        starts = self.starts(step)
        columns = [self.read(start, self.length + 1) for start in starts]
        fresh = self.place(step)[1] == 0
        return Batch(torch.from_numpy(np.stack(columns, axis=1)), fresh, self._folds(starts))

    def place(self, step: int) -> tuple[int, int]:
        """Which round this step is in, and how many bytes each lane has read in it."""
        turn, within = divmod(step, self.steps_a_round)
        return turn, within * self.length

    def starts(self, step: int) -> list[int]:
        """Where in the corpus each lane reads on at this step."""
        turn, offset = self.place(step)
        shift = int(np.random.default_rng([self.seed, turn]).integers(self.corpus.split)) if turn else 0
        return [(lane * self.lane + shift + offset) % self.corpus.split for lane in self.mine]

    def read(self, start: int, size: int) -> Bytes:
        """`size` bytes of the training part from `start` on, going round at its end."""
        head = self.corpus.read(start, min(start + size, self.corpus.split))
        missing = size - len(head)
        return np.concatenate([head, self.corpus.read(0, missing)]) if missing else head

    def _folds(self, starts: list[int]) -> Tensor:
        places = torch.tensor(starts) + torch.arange(1, self.length + 1)[:, None]
        return places % self.corpus.split * FOLDS // min(self.corpus.split, COUNTED_MOST)


def map_file(file: Path) -> Bytes:
    """The bytes of a file, mapped, not read; `-` is what standard input holds.

    Raises: UserError if it is missing, closed to us, a directory or empty.
    """
    if str(file) == "-":
        return np.frombuffer(sys.stdin.buffer.read(), np.uint8)
    try:
        if file.is_dir():
            raise UserError(f"cannot read {file}: it is a directory")
        with file.open("rb") as opened:
            if not opened.read(1):
                raise UserError(f"{file} is empty (or no ordinary file): there is nothing to read")
        return np.memmap(file, np.uint8, mode="r")
    except OSError as error:
        raise UserError(f"cannot read {file}: {os_error_reason(error)}") from error
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"cannot map {file}: {error}") from error


def _built_in() -> Bytes:
    from pydoc_data.topics import topics

    return np.frombuffer("\n".join(topics[name] for name in sorted(topics)).encode(), np.uint8)
