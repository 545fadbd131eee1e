"""Worker processes that take one job after the other and survive the death of a worker."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Generic, NamedTuple, TypeVar

from canton.errors import UserError

Job = TypeVar("Job")
Result = TypeVar("Result")
STOP_SECONDS = 10.0
"""Time in which a worker finishes its job after the caller has stopped."""


class Finished(NamedTuple, Generic[Job, Result]):
    """A job that has ended: with `result`, or with one line on why it failed."""

    job: Job
    result: Result | None
    error: str | None


Setup = Callable[[], Callable[[Job], Result]]
"""A picklable function that a worker calls once. It returns the function that does a job."""


def run_jobs(
    setup: Setup[Job, Result], jobs: Sequence[Job], *, workers: int
) -> Generator[Finished[Job, Result], None, None]:
    """Do every job and yield each as it ends.

    A job that raises fails alone. A worker that dies, even by SIGKILL, loses the job that it had, and another
    worker takes its place. If this process dies, the workers end too.

    Args:
        setup: called once in every worker; see `Setup`.
        jobs: picklable jobs, started in this order.
        workers: processes. 0: this process does the jobs.

    Raises:
        UserError: a worker cannot be set up.
    """
    if workers == 0:
        yield from _run_here(setup, jobs)
        return
    waiting = deque(jobs)
    pool = [_Worker(setup, workers) for _ in range(min(workers, len(jobs)))]
    try:
        while any(worker.busy for worker in pool) or waiting:
            for worker in pool:
                if worker.ready and waiting:
                    worker.give(waiting.popleft())
            wait([handle for worker in pool for handle in worker.handles])
            for k, worker in enumerate(pool):
                yield from worker.collect()
                if worker.dead and waiting:
                    pool[k] = _Worker(setup, workers)
    finally:
        for worker in pool:
            worker.close()


def _run_here(setup: Setup[Job, Result], jobs: Sequence[Job]) -> Generator[Finished[Job, Result], None, None]:
    do = setup()
    for job in jobs:
        try:
            finished: Finished[Job, Result] = Finished(job, do(job), None)
        except Exception as error:
            finished = Finished(job, None, error_line(error))
        yield finished


def error_line(error: BaseException) -> str:
    """Return an error as one line; the type is named unless it is a `UserError`."""
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}".rstrip(": ")


class _Worker:
    """A worker process as the main process sees it."""

    def __init__(self, setup: Setup[Any, Any], workers: int) -> None:
        spawn = multiprocessing.get_context("spawn")  # a fork would inherit the threads of torch and OpenCV
        self._connection, other = spawn.Pipe()
        self._process: SpawnProcess = spawn.Process(
            target=_work, args=(setup, other, _threads(workers)), daemon=True
        )
        self._process.start()
        other.close()
        self._job: Any = None
        self.busy, self.ready, self.dead = True, False, False

    @property
    def handles(self) -> list[Any]:
        """What to wait for: a message, or the end of the process."""
        return [] if self.dead or not self.busy else [self._connection, self._process.sentinel]

    def give(self, job: Any) -> None:
        self._job, self.busy, self.ready = (job,), True, False
        with suppress(OSError):  # a dead worker is noticed by `collect`
            self._connection.send(job)

    def collect(self) -> Generator[Finished[Any, Any], None, None]:
        """Take the worker's message, if there is one, or notice its death."""
        if self.dead or not self.busy:
            return
        alive = self._process.is_alive()  # before the message: what a dying worker sent still counts
        try:
            message = self._connection.recv() if self._connection.poll() else None
        except (EOFError, OSError):
            message, alive = None, False
        if message is not None:
            kind, content = message
            if kind == "setup failed":
                raise UserError(content)
            self.busy, self.ready = False, True
            if kind != "ready":
                yield Finished(self._job[0], *((content, None) if kind == "done" else (None, content)))
                self._job = None
        elif not alive:
            self._process.join()
            self.busy, self.dead = False, True
            if self._job is None:
                raise UserError(f"a worker ended while it started ({_status(self._process.exitcode)})")
            yield Finished(self._job[0], None, f"the worker ended ({_status(self._process.exitcode)})")

    def close(self) -> None:
        """End the process; a job that is under way may finish within `STOP_SECONDS`."""
        with suppress(OSError):
            self._connection.send(None)
        self._connection.close()
        if not self.busy:
            self._process.join(STOP_SECONDS)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join(STOP_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _status(code: int | None) -> str:
    if code is not None and code < 0:
        with suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit status {code}"


def _threads(workers: int) -> int:
    """Return the number of threads for each of several workers."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, available // workers)


def _work(setup: Setup[Any, Any], connection: Connection, threads: int) -> None:
    """Do jobs until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process handles Ctrl-C
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _limit_threads(threads)
    try:
        do = setup()
    except Exception as error:
        connection.send(("setup failed", error_line(error)))
        return
    connection.send(("ready", None))
    with suppress(EOFError, OSError):
        while (job := connection.recv()) is not None:
            try:
                message = ("done", do(job))
            except Exception as error:
                message = ("failed", error_line(error))
            connection.send(message)


def _limit_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    with suppress(ImportError):
        import cv2

        cv2.setNumThreads(threads)


def _end_with_parent() -> None:
    """End this process when its parent has died, so that a killed run leaves no workers."""
    parent = multiprocessing.parent_process()
    while parent is not None and parent.is_alive():
        time.sleep(0.2)
    os._exit(1)
