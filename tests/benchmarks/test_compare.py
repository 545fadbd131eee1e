"""`make bench`: contestants answer for themselves, refusals are told, the table's arithmetic is right."""

from __future__ import annotations

import sys

import pytest

from compare.runner import Timing, compare, report


def test_contestants_are_timed_in_turn() -> None:
    ours, theirs = compare("W6", repetitions=2, contestants=("canton", "torch_loop"))
    assert len(ours.seconds) == len(theirs.seconds) == 2
    assert all(s > 0 for s in ours.seconds + theirs.seconds)
    assert "torch" in ours.versions


def test_a_contestant_that_cannot_is_told() -> None:
    (refused,) = compare("W6", repetitions=1, contestants=("torch_nn",))
    assert not refused.seconds
    assert "no convolutional GRU" in refused.refused


@pytest.mark.parametrize(
    ("workload", "contestants", "message"),
    [("W99", ("canton",), "workload is 'W99'"), ("W6", ("me",), "'me'")],
)
def test_unknown_names_are_refused(workload: str, contestants: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(compare(workload, contestants=contestants))


def test_ratios_and_floor() -> None:
    ours = Timing("canton", "W3a", 1, seconds=[0.2, 0.1, 0.4])
    theirs = Timing("torch_nn", "W3a", 1, seconds=[0.3, 0.5, 0.4])
    rows = report([ours, theirs], {"gflop_per_s": 100.0, "cached_gb_per_s": 50.0})["rows"]
    assert isinstance(rows, list)
    assert rows[0]["median_s"] == 0.2
    assert rows[1]["canton_is_faster_by"] == pytest.approx(2.0)
    # 2 x 3 gates x 256 outputs x 512 inputs x 128 steps x 64 rows, three passes
    assert rows[0]["floor_s"] == pytest.approx(2 * 3 * 256 * 512 * 128 * 64 * 3 / 100e9)
    assert rows[0]["share_of_floor"] == pytest.approx(rows[0]["floor_s"] / 0.2)


def test_a_batch_of_one_is_bound_by_reading_its_weights() -> None:
    from compare.workloads import WORKLOADS

    peak = {"gflop_per_s": 100.0, "cached_gb_per_s": 50.0}
    batched = 2 * 3 * 512 * 512 * 1024 * 4 / 100e9  # three products of the input half, one for a gradient
    read = 2 * 3 * 512 * 512 * 4 * 1024 / 50e9
    assert WORKLOADS["W3b"].floor_s(peak) == pytest.approx(batched + read)


def test_no_peer_is_imported_here() -> None:
    import compare.runner  # noqa: F401

    assert "tensorflow" not in sys.modules
    assert "jax" not in sys.modules
