"""`explain` and `which` name the kernel that a call runs, without computing anything."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence
from torch.utils._python_dispatch import TorchDispatchMode

import canton
from canton import Recurrent, kernels, maps
from cases import CELLS, MAPS, inputs, layer

FREE = ("empty", "expand", "view", "slice", "select", "unbind", "transpose", "split", "unsqueeze", "promote")


class Operations(TorchDispatchMode):
    """A recorder of the names of operations that read or write numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if not any(word in str(func) for word in FREE):
            self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def chosen(rnn: Recurrent, xs: Tensor, monkeypatch: pytest.MonkeyPatch, **arguments: Tensor) -> list[str]:
    """Return the kernels that a call of `rnn` chooses, in order."""
    names, choose = [], kernels.choose

    def record(run: object, kernel: str) -> str:
        names.append(choose(run, kernel))
        return names[-1]

    with monkeypatch.context() as patch:
        patch.setattr(kernels, "choose", record)
        rnn(xs, **arguments)
    return names


@pytest.mark.parametrize("place", ["dense", "conv2d-groups", "separable2d"])
@pytest.mark.parametrize("cell", CELLS)
def test_explain_names_what_runs(cell: str, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rnn, xs = layer(cell, MAPS[place], kernel="auto", layers=2, bidirectional=True), inputs(MAPS[place])
    for dtype in (torch.float64, torch.float32):
        rnn.to(dtype)
        for recompute in (False, True):
            rnn.recompute = recompute
            found = [choice.kernel for choice in rnn.explain(xs.to(dtype))]
            run = chosen(rnn, xs.to(dtype), monkeypatch)
            assert set(run) == set(found)
            assert recompute or run == found


@pytest.mark.parametrize(
    "options", [{"zoneout": 0.1}, {"recurrent_dropout": 0.1}, {"learn_initial_state": True}]
)
@pytest.mark.parametrize("given", ["nothing", "lengths", "reset", "autocast"])
def test_explain_follows_options_and_arguments(
    options: dict[str, float], given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = {
        "lengths": {"lengths": torch.tensor([5, 3])},
        "reset": {"reset": torch.zeros(5, 2, dtype=torch.bool)},
    }.get(given, {})
    for make in (canton.GRU, canton.LSTM, canton.MinGRU):
        rnn, xs = make(3, 4, 2, **options), torch.randn(5, 2, 3)
        with torch.autocast("cpu", torch.bfloat16, enabled=given == "autocast"):
            found = [choice.kernel for choice in rnn.explain(xs, **arguments)]
            assert found == chosen(rnn, xs, monkeypatch, **arguments)


def test_nothing_is_computed() -> None:
    rnn = canton.ConvGRU2d(3, 4, 3, 2, bidirectional=True, recurrent_dropout=0.1, zoneout=0.1)
    xs, hx, calls = torch.randn(6, 2, 3, 9, 8), torch.zeros(4, 2, 4, 9, 8), []
    for cell in rnn.cells:
        cell.input_map.forward = calls.append
    before = torch.get_rng_state()
    with Operations() as operations:
        rnn.explain(xs)
        rnn.which(xs)
        rnn.explain(xs, hx)
    assert torch.equal(torch.get_rng_state(), before)
    assert not calls
    assert not operations.names


def test_a_sequence_too_long_for_the_memory_is_explained() -> None:
    rnn = canton.ConvGRU2d(3, 64, 3)
    xs = torch.zeros(1).expand(1000, 1, 3, 2160, 3840)  # its states would take 2 TB
    assert rnn.which(xs) == rnn.which(torch.zeros(5, 1, 3, 9, 8))


def test_packed_integers_unbatched_and_batch_first() -> None:
    rnn = canton.GRU(8, 4)
    name = rnn.which(torch.randn(5, 2, 8))
    rows = [torch.randn(5, 8), torch.randn(3, 8)]
    assert rnn.which(torch.zeros(5, 2, dtype=torch.uint8)) == name
    assert rnn.which(torch.randn(5, 8)) == name
    assert rnn.which(pack_sequence(rows)) == name
    assert canton.GRU(8, 4, batch_first=True).which(pack_sequence(rows)) == name
    with pytest.raises(ValueError, match="lengths"):
        rnn.explain(pack_sequence(rows), lengths=[5, 3])


def test_the_explanation_is_readable() -> None:
    lines = str(canton.GRU(3, 4, 2, bidirectional=True).explain(torch.randn(5, 2, 3))).splitlines()
    assert len(lines) == 4 * (1 + len(kernels.NAMES) - 2)
    assert lines[0].startswith("layer 0, forward: ")
    assert [line for line in lines if line.startswith("layer 1, backward: ")]
    assert len(str(canton.GRU(3, 4, layer_norm=True).explain(torch.randn(5, 2, 3))).splitlines()) == 2


@pytest.mark.parametrize("kernel", [name for name in kernels.NAMES if name not in ("auto", "loop")])
def test_a_kernel_asked_for_by_name_runs_or_raises(kernel: str) -> None:
    xs = torch.randn(5, 2, 3)
    for make in (canton.GRU, canton.LSTM, canton.MinGRU, canton.MGU, canton.RNN):
        rnn = make(3, 4, kernel=kernel)
        if rnn.explain(xs)[0].kernel is None:
            for call in (lambda: rnn.which(xs), lambda: rnn(xs), lambda: rnn.step(xs[0])):  # noqa: B023
                with pytest.raises(ValueError, match=f"kernel.*{kernel}"):
                    call()
        else:
            assert rnn.which(xs) == kernel
            ys, y = rnn(xs)[0], rnn.step(xs[0])[0]
            rnn.kernel = "loop"
            torch.testing.assert_close(ys, rnn(xs)[0])
            torch.testing.assert_close(y, rnn.step(xs[0])[0])


def test_each_layer_of_a_stack_is_explained() -> None:
    rnn = Recurrent([canton.MinGRUCell(3, 4), canton.GRUCell(4, 4, map=Odd)], kernel="auto")
    first, second = rnn.explain(torch.randn(5, 2, 3))
    assert first.kernel != "loop"
    assert second.kernel == "loop"
    assert None not in second.reasons.values()


class Odd(nn.Module):
    """A map that is neither nn.Linear nor a convolution."""

    def __init__(self, c_in: int, c_out: int, bias: bool) -> None:
        super().__init__()
        self.inner = maps.dense(c_in, c_out, bias)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inner(x)
        return y
