"""What is kept of recorded work, and for how long."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable

from canton.kernels.cuda_graphs.capture import Recording


class Cache:
    """The recordings used last, and what work was seen; both by what shapes the work.

    Args:
        most: how many recordings are kept.
        most_bytes: how much memory they may hold together; the last one is kept in any case.
        most_seen: of how much work it is remembered that it was seen.
    """

    def __init__(self, most: int = 16, most_bytes: int = 4 << 30, most_seen: int = 256) -> None:
        self.most, self.most_bytes, self.most_seen = most, most_bytes, most_seen
        self._kept: OrderedDict[Hashable, Recording] = OrderedDict()
        self._seen: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()  # a wait, what is left of it

    def __len__(self) -> int:
        return len(self._kept)

    def bytes(self) -> int:
        """The memory of what goes in and out of all recordings."""
        return sum(recording.bytes for recording in self._kept.values())

    def get(self, key: Hashable) -> Recording | None:
        """The recording of this work, if there is one."""
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def is_due(self, key: Hashable) -> bool:
        """Whether this work, of which there is no recording, is to be recorded now: when seen again.

        What had to go and comes again waits four times as long each time: if more kinds of work take turns
        than can be kept, recording them over and over would cost more than running them.
        """
        wait, left = self._seen.pop(key, (1, 1))
        self._seen[key] = (wait, left - 1) if left else (4 * wait, 4 * wait)
        while len(self._seen) > self.most_seen:
            self._seen.popitem(last=False)
        return not left

    def never(self, key: Hashable) -> None:
        """This work cannot be recorded: it is not to be tried again."""
        self._seen[key] = (math.inf, math.inf)

    def later(self, key: Hashable) -> None:
        """This work could not be recorded now: it is to be seen so many more times first."""
        self._seen[key] = (64, 64)

    def put(self, key: Hashable, recording: Recording) -> None:
        """Keep a recording; the ones not used for the longest go."""
        self._kept[key] = recording
        while len(self._kept) > 1 and (len(self._kept) > self.most or self.bytes() > self.most_bytes):
            _, oldest = self._kept.popitem(last=False)
            oldest.graph.finish()

    def clear(self) -> None:
        """Forget everything."""
        for recording in self._kept.values():
            recording.graph.finish()
        self._kept.clear()
        self._seen.clear()
