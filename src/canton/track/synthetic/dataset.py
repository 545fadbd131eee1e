"""Made scenes by number, for a pool of workers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from torch.utils.data import Dataset

from canton.track.data.workers import prefetch
from canton.track.synthetic.scene import Scene, make_scene

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
    # forked workers would inherit OpenCV's threads without the threads
    with closing(prefetch(scenes, range(start, len(scenes)), workers=workers, start_method="spawn")) as each:
        yield each
