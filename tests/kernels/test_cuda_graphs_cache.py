"""The cache of recordings is bounded and evicts the least recently used."""

from __future__ import annotations

from canton.kernels.cuda_graphs import cache


class Nothing:
    """A recording of so many bytes."""

    def __init__(self, size: int) -> None:
        self.bytes, self.graph = size, self
        self.finished = False

    def finish(self) -> None:
        self.finished = True


def test_the_cache_is_bounded() -> None:
    kept = cache.Cache(max_count=3, max_bytes=100, max_seen=2)
    made = [Nothing(10) for _ in range(5)]
    for k in range(3):
        kept.put(k, made[k])
    kept.get(0)
    kept.put(3, made[3])  # 1 was not used for the longest
    assert [kept.get(k) for k in range(4)] == [made[0], None, made[2], made[3]]
    assert [m.finished for m in made] == [False, True, False, False, False]
    kept.put("large", Nothing(85))
    assert [kept.get(k) for k in (0, 2, 3)] == [None, None, made[3]]
    kept.put("too large", Nothing(1000))
    assert len(kept) == 1
    assert kept.bytes() == 1000
    kept.clear()
    assert len(kept) == 0
    assert [kept.is_due(k) for k in "aabab"] == [False, True, False, False, True]
    assert [kept.is_due(k) for k in "ca"] == [False, False], "seen too long ago"
    kept.never("a")
    assert not any(kept.is_due("a") for _ in range(99))


def test_evicted_work_waits_longer() -> None:
    """If more kinds of work alternate than fit, most of it runs directly."""
    kept = cache.Cache(max_count=3)
    recorded = []
    for turn in range(100):
        for key in range(5):
            if kept.get(key) is None and kept.is_due(key):
                kept.put(key, Nothing(1))
                recorded.append(turn)
    assert recorded[:5] == [1] * 5
    assert len(recorded) <= 5 * 4
