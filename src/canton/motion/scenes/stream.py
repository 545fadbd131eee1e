"""Made scenes by number, for a pool of workers."""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader, Dataset, Subset

from canton.errors import require
from canton.motion.scenes.scene import Scene, make_scene

if TYPE_CHECKING:
    import cv2
else:
    cv2 = require("cv2", extra="track")

MOST = 1 << 32
"""Scenes of one seed; those of the next begin behind them."""


class Scenes(Dataset[Scene]):
    """`count` made scenes; the same seed and index give the same scene, in whichever process.

    The other arguments are those of `make_scene`.

    Raises: ValueError for a seed or count outside their range.
    """

    def __init__(
        self,
        seed: int,
        count: int,
        *,
        frames: int = 8,
        size: int | tuple[int, int] = 128,
        kind: str = "mixed",
        backgrounds: Path | None = None,
        target: str = "drone",
    ) -> None:
        if not 0 <= seed < MOST:
            raise ValueError(f"seed is {seed}: it lies between 0 and {MOST - 1}")
        if not 1 <= count <= MOST:
            raise ValueError(f"count is {count}: there are 1 to {MOST} scenes of a seed")
        self.seed, self.count, self.frames, self.size = seed, count, frames, size
        self.kind, self.backgrounds, self.target = kind, backgrounds, target

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Scene:
        if not 0 <= index < self.count:
            raise IndexError(f"index is {index}: there are {self.count} scenes")
        return make_scene(
            self.seed * MOST + index,
            frames=self.frames,
            size=self.size,
            kind=self.kind,
            backgrounds=self.backgrounds,
            target=self.target,
        )


@contextmanager
def in_order(scenes: Scenes, *, workers: int = 0, start: int = 0) -> Iterator[Iterator[Scene]]:
    """The scenes from `start` on, in order, made by so many processes; 0: in this one.

    Raises: ValueError for fewer than 0 workers.
    """
    if workers < 0:
        raise ValueError(f"workers is {workers}: it is 0 or more")
    loader = DataLoader(
        Subset(scenes, range(start, len(scenes))),
        batch_size=None,
        num_workers=workers,
        collate_fn=_as_it_is,
        worker_init_fn=_alone,
        # forked workers would inherit OpenCV's threads without the threads
        multiprocessing_context="spawn" if workers else None,
    )
    with closing(_each(loader)) as each:
        yield each


def _each(loader: DataLoader[Scene]) -> Generator[Scene]:
    yield from loader


def _as_it_is(scene: Any) -> Any:
    return scene


def _alone(worker: int) -> None:
    """A worker is one of many and gives itself no threads; Ctrl-C is for the process that reads from it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)
