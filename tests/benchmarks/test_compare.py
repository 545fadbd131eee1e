"""`make bench`: interleaved timing, skipped implementations, comparison of outputs, and the report."""

from __future__ import annotations

import sys

import pytest
import torch

from compare.implementations import canton as canton_side
from compare.implementations.shared_torch import check_outputs
from compare.implementations.torch_loop import LoopConvGRU, LoopGRU
from compare.runner import Timing, compare, report
from compare.workloads import WORKLOADS, OutputMismatch


def test_implementations_are_timed_interleaved() -> None:
    canton, loop = compare("W6", repetitions=2, implementations=("canton", "torch_loop"))
    assert len(canton.seconds) == len(loop.seconds) == 2
    assert all(s > 0 for s in canton.seconds + loop.seconds)
    assert "torch" in canton.versions


def test_a_missing_implementation_gives_the_reason() -> None:
    (skipped,) = compare("W6", repetitions=1, implementations=("torch_nn",))
    assert not skipped.seconds
    assert "convolutional GRU" in skipped.skip_reason


@pytest.mark.parametrize(
    ("workload", "implementations", "argument"),
    [("W99", ("canton",), "workload"), ("W6", ("me",), "implementations")],
)
def test_unknown_names_raise(workload: str, implementations: tuple[str, ...], argument: str) -> None:
    with pytest.raises(ValueError, match=argument):
        list(compare(workload, implementations=implementations))


@pytest.mark.parametrize("name", ["W1", "W3a", "W4a", "W5", "W6"])
def test_canton_computes_the_same_network_as_the_loop(name: str) -> None:
    canton_side.build(name, WORKLOADS[name]._replace(steps=2, batch=2), threads=1)  # raises OutputMismatch


@pytest.mark.parametrize("name", ["W1", "W3a", "W4a", "W5", "W6"])
def test_other_weights_are_not_timed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for convert in ("gru_like", "conv_gru_like"):
        monkeypatch.setattr(canton_side, convert, with_other_weights(getattr(canton_side, convert)))
    with pytest.raises(OutputMismatch):
        canton_side.build(name, WORKLOADS[name]._replace(steps=2, batch=2), threads=1)


def with_other_weights(convert):  # type: ignore[no-untyped-def]
    """Return a conversion that changes the candidate's weights."""

    def converted(loop: LoopGRU | LoopConvGRU) -> torch.nn.Module:
        layer = convert(loop)
        with torch.no_grad():
            layer.cells[0].input_map.weight[-loop.hidden :] *= 1.5
        return layer

    return converted


def test_outputs_of_another_shape_or_not_finite_raise() -> None:
    with pytest.raises(OutputMismatch):
        check_outputs(torch.ones(2, 1), torch.ones(2))
    with pytest.raises(OutputMismatch):
        check_outputs(torch.tensor([1.0, torch.nan]), torch.ones(2))


def test_speedup_and_roofline() -> None:
    canton = Timing("canton", "W3a", 1, seconds=[0.2, 0.1, 0.4])
    torch_nn = Timing("torch_nn", "W3a", 1, seconds=[0.3, 0.5, 0.4])
    rows = report([canton, torch_nn], {"gflop_per_s": 100.0, "cached_gb_per_s": 50.0})["rows"]
    assert isinstance(rows, list)
    assert rows[0]["median_s"] == 0.2
    assert rows[1]["canton_speedup"] == pytest.approx(2.0)
    # 2 x 3 gates x 256 outputs x 512 inputs x 128 steps x batch 64 x 3 passes
    assert rows[0]["roofline_s"] == pytest.approx(2 * 3 * 256 * 512 * 128 * 64 * 3 / 100e9)
    assert rows[0]["roofline_share"] == pytest.approx(rows[0]["roofline_s"] / 0.2)


def test_at_batch_1_the_roofline_has_the_reads_of_the_weights() -> None:
    peak = {"gflop_per_s": 100.0, "cached_gb_per_s": 50.0}
    products = 2 * 3 * 512 * 512 * 1024 * 4 / 100e9  # three of the input, one for a gradient
    reads = 2 * 3 * 512 * 512 * 4 * 1024 / 50e9
    assert WORKLOADS["W3b"].roofline_s(peak) == pytest.approx(products + reads)


def test_the_runner_imports_no_other_library() -> None:
    assert "tensorflow" not in sys.modules
    assert "jax" not in sys.modules
