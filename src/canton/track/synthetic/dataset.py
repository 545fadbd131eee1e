"""Synthetic scenes as a dataset for worker processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from torch.utils.data import Dataset

from canton.track.data.workers import prefetch
from canton.track.synthetic.scene import Scene, make_scene

SCENES_PER_SEED = 1 << 32
"""Scenes per seed of a dataset."""


class Scenes(Dataset[Scene]):
    """`count` synthetic scenes. The same seed and index give the same scene, in any process.

    The other arguments are those of `make_scene`.

    Raises:
        ValueError: the seed or the count is out of range.
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
        target_class: str = "drone",
    ) -> None:
        if not 0 <= seed < SCENES_PER_SEED:
            raise ValueError(f"seed must be 0 to {SCENES_PER_SEED - 1}, got {seed}")
        if not 1 <= count <= SCENES_PER_SEED:
            raise ValueError(f"count must be 1 to {SCENES_PER_SEED}, got {count}")
        self.seed, self.count, self.frames, self.size = seed, count, frames, size
        self.kind, self.backgrounds, self.target_class = kind, backgrounds, target_class

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Scene:
        if not 0 <= index < self.count:
            raise IndexError(f"index must be 0 to {self.count - 1}, got {index}")
        return make_scene(
            self.seed * SCENES_PER_SEED + index,
            frames=self.frames,
            size=self.size,
            kind=self.kind,
            backgrounds=self.backgrounds,
            target_class=self.target_class,
        )


@contextmanager
def iterate_scenes(scenes: Scenes, *, workers: int = 0, start: int = 0) -> Iterator[Iterator[Scene]]:
    """Yield an iterator over the scenes from `start` on, in order.

    Args:
        workers: processes that generate scenes. 0: this one does.

    Raises:
        ValueError: `workers` is negative.
    """
    if workers < 0:
        raise ValueError(f"workers must be >= 0, got {workers}")
    # spawn: a forked worker has OpenCV's thread pool without its threads
    with closing(
        prefetch(scenes, range(start, len(scenes)), workers=workers, start_method="spawn")
    ) as iterator:
        yield iterator
