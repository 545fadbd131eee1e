"""Worker processes that prepare the entries of a dataset ahead."""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterable
from typing import Any, TypeVar, cast

from torch.utils.data import DataLoader, Dataset

from canton.errors import UserError, require

Entry = TypeVar("Entry")


def prefetch(
    dataset: Dataset[Entry], indices: Iterable[int], *, workers: int, start_method: str | None = None
) -> Generator[Entry]:
    """Yield the dataset's entries at `indices`, in order.

    Args:
        dataset: what to read.
        indices: any iterable, even an endless one.
        workers: processes that prepare entries. 0: this process does.
        start_method: of the processes, such as "spawn". None: the system's default.

    Raises:
        UserError: as the dataset raised it, in any process.
    """
    loader = DataLoader(
        _CatchUserError(dataset),
        batch_size=None,
        sampler=cast(Any, indices),
        num_workers=workers,
        collate_fn=_identity,
        worker_init_fn=_start_worker,
        multiprocessing_context=start_method if workers else None,
    )
    for entry in loader:
        if isinstance(entry, UserError):
            raise entry
        yield entry


class _CatchUserError(Dataset[Entry | UserError]):
    """A dataset that returns a `UserError`: a `DataLoader` adds the worker's traceback to a raised one."""

    def __init__(self, dataset: Dataset[Entry]) -> None:
        self.dataset = dataset

    def __getitem__(self, index: int) -> Entry | UserError:
        try:
            return self.dataset[index]
        except UserError as error:
            return error


def _identity(entry: Any) -> Any:
    return entry


def _start_worker(worker: int) -> None:
    """Ignore Ctrl-C, which the main process handles, and use one thread.

    A forked process has OpenCV's thread pool without its threads and would wait for them forever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    require("cv2", extra="track").setNumThreads(0)
