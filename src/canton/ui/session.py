"""Visitors of the page: who asks, their running jobs, and errors shown to them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from canton.errors import UserError


def visitor(request: gr.Request) -> str:
    """Return the visitor's id, which stays the same while their page is open."""
    return str(request.session_hash)


@contextmanager
def show_errors() -> Iterator[None]:
    """Show a UserError or ValueError to the visitor in one line; other exceptions go to the log."""
    try:
        yield
    except (UserError, ValueError) as error:
        raise gr.Error(str(error), print_exception=False, title="Invalid input") from error


class Jobs:
    """Running jobs by key, such as "write ID"; a new job stops the old one of its key. Thread-safe."""

    def __init__(self) -> None:
        self._running: dict[str, threading.Event] = {}
        self._lock = threading.Lock()

    def start(self, key: str) -> threading.Event:
        """Register a job, and return the event at which it must stop."""
        stop = threading.Event()
        with self._lock:
            previous = self._running.get(key)
            self._running[key] = stop
        if previous is not None:
            previous.set()
        return stop

    def stop(self, key: str) -> None:
        """Stop the job of this key, if there is one."""
        with self._lock:
            stop = self._running.pop(key, None)
        if stop is not None:
            stop.set()
