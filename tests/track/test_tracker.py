"""Track ids in flight, over gaps, at crossings and after a reset."""

from __future__ import annotations

import math
import sys
import tracemalloc

import numpy as np
import pytest

pytest.importorskip("trackers", reason="trackers is not installed (canton-torch[track])")

from canton.errors import MissingExtra
from canton.track.boxes import Box
from canton.track.peaks import Peak
from canton.track.tracker import Track, Tracker


def follow(
    tracker: Tracker,
    paths: dict[int, list[tuple[float, float]]],
    *,
    size: float = 10,
    gaps: tuple[int, ...] = (),
) -> dict[int, list[int | None]]:
    """Return the id of each path's object in each frame. Frames in `gaps` have no peaks."""
    numbers: dict[int, list[int | None]] = {name: [] for name in paths}
    frames = max(map(len, paths.values()))
    for k in range(frames):
        places = {} if k in gaps else {name: path[k] for name, path in paths.items()}
        tracks = tracker.update([Peak(Box.from_centre(x, y, size, size), 0.9) for x, y in places.values()])
        for name in paths:
            at = places.get(name)
            found = [t.id for t in tracks if at and math.dist(t.box.centre, at) < 1e-6]
            numbers[name].append(found[0] if found else None)
    return numbers


@pytest.mark.parametrize("fps", [10, 30])
@pytest.mark.parametrize("speed", [2, 8, 14])  # px a frame, boxes of ten
def test_one_id_in_flight(fps: float, speed: float) -> None:
    path = [(20 + speed * k, 100 + 3 * math.sin(k / 3)) for k in range(12)]
    assert follow(Tracker(fps), {0: path})[0] == [None] + [1] * 11


@pytest.mark.parametrize("fps", [10, 30])
@pytest.mark.parametrize("speed", [2, 8])
def test_one_id_over_a_gap(fps: float, speed: float) -> None:
    path = [(20 + speed * k, 100.0) for k in range(16)]
    assert follow(Tracker(fps), {0: path}, gaps=(8, 9))[0] == [None] + [1] * 7 + [None] * 2 + [1] * 6


def test_two_crossing_objects_keep_their_ids() -> None:
    paths = {
        0: [(40 + 6 * k, 40 + 4 * k) for k in range(20)],
        1: [(151 - 6 * k, 43 + 4 * k) for k in range(20)],  # within 5 px of each other half-way
    }
    numbers = follow(Tracker(10), paths)
    closest = min(math.dist(a, b) for a, b in zip(paths[0], paths[1], strict=True))
    assert closest < 5
    assert {tuple(set(numbers[0][1:])), tuple(set(numbers[1][1:]))} == {(1,), (2,)}


def test_the_second_peak_starts_a_track() -> None:
    tracker = Tracker(10)
    peak = Peak(Box.from_centre(50, 40, 12, 6), 0.8)
    assert tracker.update([peak]) == []
    assert tracker.update([peak]) == [Track(1, (44, 37, 12, 6), 0.8, 2)]
    assert tracker.update([peak])[0].age == 3
    assert tracker.update([]) == []
    assert tracker.update([peak])[0].age == 4  # frames with a detection


def test_an_object_lost_for_long_gets_a_new_id() -> None:
    for fps in (10, 30):
        tracker = Tracker(fps)
        peak = Peak(Box.from_centre(50, 40, 12, 6), 0.8)
        for _ in range(3):
            tracker.update([peak])
        for _ in range(2 * fps):
            tracker.update([])
        assert tracker.update([peak]) == []
        assert tracker.update([peak])[0].id == 2


def test_ids_are_not_reused_after_a_reset() -> None:
    tracker = Tracker(10)
    peak = Peak(Box.from_centre(50, 40, 12, 6), 0.8)
    ids = []
    for _ in range(3):
        for _ in range(3):
            ids += [track.id for track in tracker.update([peak])]
        tracker.reset()
    assert ids == [1, 1, 2, 2, 3, 3]


def test_a_low_score_continues_but_does_not_start_a_track() -> None:
    tracker = Tracker(10, threshold=0.5)
    weak, strong = Peak(Box.from_centre(50, 40, 12, 6), 0.3), Peak(Box.from_centre(50, 40, 12, 6), 0.8)
    assert [tracker.update([weak]) for _ in range(4)] == [[]] * 4
    tracker.update([strong])
    assert [t.id for t in tracker.update([strong])] == [1]
    assert [(t.id, t.score) for t in tracker.update([weak])] == [(1, 0.3)]


def test_a_single_peak_is_no_track() -> None:
    tracker = Tracker(10)
    draw = np.random.default_rng(0)
    for k in range(60):
        x, y = draw.uniform(0, 320, 2)
        assert tracker.update([Peak(Box.from_centre(x, y, 8, 8), 0.9)] if k % 3 == 0 else []) == []


def test_memory_use_is_constant() -> None:
    """A new object every eleven frames; the first 3000 frames fill the libraries' caches."""
    tracker = Tracker(30)

    def run(begin: int, end: int) -> None:
        for k in range(begin, end):
            thing, step = divmod(k, 11)
            tracker.update([Peak(Box.from_centre(37 * thing % 300 + step, 53 * thing % 250, 10, 10), 0.9)])

    tracemalloc.start()
    run(0, 3000)
    before = tracemalloc.get_traced_memory()[0]
    run(3000, 5500)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 5_000, grown  # one stored id per object would be four times that
    assert tracker.update([Peak(Box.from_centre(1, 1, 10, 10), 0.9)]) == []


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
def test_fps_out_of_range(fps: float) -> None:
    with pytest.raises(ValueError, match="fps"):
        Tracker(fps)


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trackers", None)
    with pytest.raises(MissingExtra, match=r"canton-torch\[track\]"):
        Tracker(10)
