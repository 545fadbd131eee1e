"""Which work goes on for whom, so that a stop button stops one's own work and nobody else's."""

from __future__ import annotations

import threading


class Jobs:
    """One job at a time for each visitor; a new one ends the visitor's last. Safe to use from any thread."""

    def __init__(self) -> None:
        self._running: dict[str, threading.Event] = {}
        self._lock = threading.Lock()

    def start(self, visitor: str) -> threading.Event:
        """Begin a job; it ends itself soon after the event is set."""
        stop = threading.Event()
        with self._lock:
            before = self._running.get(visitor)
            self._running[visitor] = stop
        if before is not None:
            before.set()
        return stop

    def stop(self, visitor: str) -> None:
        """Ask this visitor's job to end, if there is one."""
        with self._lock:
            stop = self._running.pop(visitor, None)
        if stop is not None:
            stop.set()
