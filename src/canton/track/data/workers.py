"""Worker processes that make ahead what one process reads in order."""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterable
from typing import Any, TypeVar, cast

from torch.utils.data import DataLoader, Dataset

from canton.errors import UserError, require

Made = TypeVar("Made")


def prefetch(
    dataset: Dataset[Made], indices: Iterable[int], *, workers: int, start: str | None = None
) -> Generator[Made]:
    """The dataset's entries at `indices`, in order, made by so many processes; 0: by this one.

    start: how the processes begin, such as "spawn"; None: as is usual on this system.

    Raises: UserError as the dataset raised it, in whichever process.
    """
    loader = DataLoader(
        _Caught(dataset),
        batch_size=None,
        sampler=cast(Any, indices),  # any iterable will do
        num_workers=workers,
        collate_fn=_as_it_is,
        worker_init_fn=_alone,
        multiprocessing_context=start if workers else None,
    )
    for made in loader:
        if isinstance(made, UserError):
            raise made
        yield made


class _Caught(Dataset[Made | UserError]):
    """What a person can mend is handed on as it is: a loader would raise it with a worker's traceback in its
    words.
    """

    def __init__(self, dataset: Dataset[Made]) -> None:
        self.dataset = dataset

    def __getitem__(self, index: int) -> Made | UserError:
        try:
            return self.dataset[index]
        except UserError as error:
            return error


def _as_it_is(made: Any) -> Any:
    return made


def _alone(worker: int) -> None:
    """A worker is one of many and gives itself no threads (a forked one has OpenCV's pool without its
    threads, and would wait for them); Ctrl-C is for the process that reads from it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    require("cv2", extra="track").setNumThreads(0)
