"""The cache of recordings."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable

from canton.kernels.cuda_graphs.capture import Recording


class Cache:
    """The recently used recordings, and the keys of earlier work.

    Args:
        max_count: maximum number of recordings.
        max_bytes: maximum memory of all recordings; the last one is always kept.
        max_seen: maximum number of keys.
    """

    def __init__(self, max_count: int = 16, max_bytes: int = 4 << 30, max_seen: int = 256) -> None:
        self.max_count, self.max_bytes, self.max_seen = max_count, max_bytes, max_seen
        self._recordings: OrderedDict[Hashable, Recording] = OrderedDict()
        self._seen: OrderedDict[Hashable, tuple[float, float]] = (
            OrderedDict()
        )  # a wait and what is left of it

    def __len__(self) -> int:
        return len(self._recordings)

    def bytes(self) -> int:
        """Return the memory of the inputs and outputs of all recordings."""
        return sum(recording.bytes for recording in self._recordings.values())

    def get(self, key: Hashable) -> Recording | None:
        """Return the recording of this work, if there is one."""
        if key in self._recordings:
            self._recordings.move_to_end(key)
        return self._recordings.get(key)

    def is_due(self, key: Hashable) -> bool:
        """Return whether this work, which has no recording, is to be captured now: when it is seen again.

        Work that was evicted waits four times as long each time. If more kinds of work alternate than can be
        kept, capturing them again and again would cost more than running them.
        """
        wait, left = self._seen.pop(key, (1, 1))
        self._seen[key] = (wait, left - 1) if left else (4 * wait, 4 * wait)
        while len(self._seen) > self.max_seen:
            self._seen.popitem(last=False)
        return not left

    def never(self, key: Hashable) -> None:
        """Never try to capture this work again."""
        self._seen[key] = (math.inf, math.inf)

    def later(self, key: Hashable) -> None:
        """Try to capture this work again after it was seen 64 more times."""
        self._seen[key] = (64, 64)

    def put(self, key: Hashable, recording: Recording) -> None:
        """Add a recording; those not used for the longest time are evicted."""
        self._recordings[key] = recording
        while len(self._recordings) > 1 and (
            len(self._recordings) > self.max_count or self.bytes() > self.max_bytes
        ):
            _, oldest = self._recordings.popitem(last=False)
            oldest.graph.finish()

    def clear(self) -> None:
        """Remove everything."""
        for recording in self._recordings.values():
            recording.graph.finish()
        self._recordings.clear()
        self._seen.clear()
