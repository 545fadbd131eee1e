"""The recorded loop without a GPU: what is recorded and when, and that a recording sees nothing but its own.

In place of a CUDA graph stands one that does the same work again, from the same memory into the same memory:
what a real one cannot see, it does not see either. `test_cuda.py` has the real one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from threading import RLock
from typing import Any

import pytest
import torch
from torch import Tensor

import canton
from canton import kernels
from canton.core.recurrent import loop
from canton.kernels import Dense, Run, cuda_graphs
from canton.kernels.cuda_graphs import cache, capture
from cases import MAPS, shake_
from runs import OPTIONS, RUNS, make_cell, outcome, random_run, setting
from tolerances import assert_close


class Again:
    """Stands in for `recording.Graph`."""

    replays = 0
    fails: RuntimeError | None = None

    def __init__(self, work: Callable[[], Any], device: torch.device) -> None:
        if Again.fails is not None:
            raise Again.fails
        self.work, self.result = work, work()

    def wait_for_last_user(self) -> None: ...

    def finish(self) -> None: ...

    def replay(self) -> None:
        Again.replays += 1
        places: list[Tensor] = []
        made: list[Tensor] = []
        capture.form(self.result, places)
        capture.form(self.work(), made)
        for place, new in zip(places, made, strict=True):
            place.copy_(new)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> cache.Cache:
    """An empty cache, on a processor that passes for a GPU."""
    monkeypatch.setattr(capture, "Graph", Again)
    monkeypatch.setattr(cuda_graphs, "_on", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(cuda_graphs, "_capturing", lambda device: False)
    monkeypatch.setattr(Again, "replays", 0)
    monkeypatch.setattr(Again, "fails", None)
    cuda_graphs.clear()
    place = cuda_graphs.Device(cache.Cache(), RLock())
    monkeypatch.setattr(cuda_graphs, "_DEVICES", {torch.device("cpu"): place})
    return place.cache


@pytest.mark.parametrize(("cell", "place", "options"), RUNS)
def test_replays_equal_the_loop(cell: str, place: str, options: str, kept: cache.Cache) -> None:
    made = make_cell(cell, place)
    first: dict[str, Tensor] = {}
    for turn in range(3):
        shake_(made)
        run = random_run(made, MAPS[place], OPTIONS[options])
        truth = outcome(run, made, lambda run, loop: loop(run))
        found = outcome(run, made, cuda_graphs.execute)
        assert Again.replays == 2 * turn, "first it is run, then recorded: one way there and one back"
        assert found.keys() == truth.keys()
        for name, value in truth.items():
            assert_close(found[name], value, what=f"turn {turn}: {name}")
        if turn == 1:
            first, copies = found, {name: value.clone() for name, value in found.items()}
    assert len(kept) == 2
    assert all(torch.equal(first[name], copies[name]) for name in first), "a later run wrote to what it gave"


def run_of(cell: canton.Cell, steps: int = 5, batch: int = 2) -> Run:
    gx = cell.project(torch.randn(steps * batch, 3)).unflatten(0, (steps, batch))
    return Run(cell.spec(), gx, *(cell.zero_state(gx[0], gx.dtype),) * 2)


def ys_of(cell: canton.Cell, **sizes: int) -> Tensor:
    return cuda_graphs.execute(run_of(cell, **sizes), partial(loop, cell=cell))[0]


def test_two_forward_passes_before_backward(kept: cache.Cache) -> None:
    """As in a stack of layers of one shape: the second forward comes before the first backward."""
    cells = [canton.GRUCell(3, 4) for _ in range(2)]
    for _ in range(3):
        grads = []
        runs = [run_of(cell) for cell in cells]
        for play in (cuda_graphs.execute, lambda run, loop: loop(run)):
            outs = [play(run, partial(loop, cell=cell))[0] for run, cell in zip(runs, cells, strict=True)]
            loss = outs[0].square().sum() + 3 * outs[1].square().sum()
            grads.append(torch.autograd.grad(loss, [cell.candidate_map.weight for cell in cells]))
        for found, truth in zip(*grads, strict=True):
            assert_close(found, truth)
    assert len(kept) == 2, "both cells share one recording each way"


def test_without_gradients_and_in_inference_mode(kept: cache.Cache) -> None:
    cell = canton.LSTMCell(3, 4)
    for mode in (torch.no_grad, torch.inference_mode, torch.no_grad, torch.inference_mode, torch.enable_grad):
        with mode():
            run = run_of(cell)
            found, state = cuda_graphs.execute(run, partial(loop, cell=cell))
            truth, last = loop(run, cell)
        assert_close(found, truth)
        for s, wanted in zip(state, last, strict=True):
            assert_close(s, wanted)
    assert len(kept) == 1
    assert Again.replays == 3


def test_gradients_of_gradients(kept: cache.Cache) -> None:
    cell = canton.GRUCell(3, 4).double()
    state = cell.zero_state(torch.zeros(2, 12, dtype=torch.float64), torch.float64)
    gx = torch.randn(4, 2, 12, dtype=torch.float64, requires_grad=True)

    def ys(gx: Tensor) -> Tensor:
        return cuda_graphs.execute(Run(cell.spec(), gx, state, state), partial(loop, cell=cell))[0]

    assert torch.autograd.gradcheck(ys, gx)
    assert torch.autograd.gradgradcheck(ys, gx)
    assert Again.replays > 10


def test_shapes_have_recordings_of_their_own(kept: cache.Cache) -> None:
    """Whatever shapes the work makes a recording of its own; what does not, shares one."""
    cell = canton.GRUCell(3, 4)
    with torch.no_grad():
        for sizes in ({"steps": 5}, {"steps": 6}, {"batch": 3}):
            for _ in range(3):
                ys_of(cell, **sizes)
        assert len(kept) == 3
        for other in (canton.GRUCell(3, 4), canton.GRUCell(3, 4, reset="after"), canton.RNNCell(3, 4)):
            for _ in range(2):
                ys_of(other)
        assert len(kept) == 5, "the first of them has the shape of one that is there"
    for _ in range(2):
        ys_of(cell)
    assert len(kept) == 6, "what is kept for the way back is another matter"


@pytest.mark.parametrize(
    ("owner", "name", "value"),
    [
        (torch.backends.cuda.matmul, "allow_tf32", True),
        (torch.backends.cuda.matmul, "allow_fp16_accumulation", True),
        (torch.backends.cuda.matmul, "allow_fp16_reduced_precision_reduction", False),
        (torch.backends.cuda.matmul, "allow_bf16_reduced_precision_reduction", False),
        (torch.backends.cudnn.conv, "fp32_precision", "ieee"),
        (torch.backends.cudnn, "enabled", False),
        (torch.backends.cudnn, "benchmark", True),
        (torch.backends.cudnn, "deterministic", True),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_settings_have_recordings_of_their_own(
    owner: object, name: str, value: object, kept: cache.Cache
) -> None:
    """They decide which operations run: with others, work of the same shape is recorded anew."""
    cell = canton.GRUCell(3, 4)
    assert getattr(owner, name) != value
    with torch.no_grad():
        for _ in range(2):
            ys_of(cell)
        with setting(owner, name, value):
            for _ in range(2):
                ys_of(cell)
            assert len(kept) == 2
        ys_of(cell)
    assert len(kept) == 2


def test_frozen_weights_have_a_recording_of_their_own(kept: cache.Cache) -> None:
    """The gradients of weights are another recording: one without them must not serve where they count."""
    cell = canton.GRUCell(3, 4)
    for wanted in (False, False, True, True, False, True):
        cell.requires_grad_(wanted)
        run = run_of(cell)
        run = run._replace(gx=run.gx.detach().requires_grad_())
        leaves = [run.gx, *([cell.hidden_map.weight, cell.candidate_map.weight] if wanted else [])]
        grads = []
        for play in (cuda_graphs.execute, lambda run, loop: loop(run)):
            ys, _ = play(run, partial(loop, cell=cell))
            grads.append(torch.autograd.grad(ys.square().sum(), leaves))
        for found, truth in zip(*grads, strict=True):
            assert_close(found, truth)
    assert len(kept) == 3


def test_short_and_empty_runs_are_unsupported(kept: cache.Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graphs, "_is_on_gpu", lambda run: True)
    cell = canton.GRUCell(3, 4)
    for sizes in ({"steps": cuda_graphs.MIN_STEPS - 1}, {"batch": 0}):
        assert cuda_graphs.unsupported_reason(run_of(cell, **sizes)) == "it captures runs of 4 steps or more"
    assert cuda_graphs.unsupported_reason(run_of(cell, steps=cuda_graphs.MIN_STEPS)) is None


def test_no_recording_inside_a_capture(kept: cache.Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backward pass may be captured whose forward pass was not."""
    cell = canton.GRUCell(3, 4)
    for _ in range(3):
        ys_of(cell).sum().backward()
    assert Again.replays == 4
    monkeypatch.setattr(cuda_graphs, "_capturing", lambda device: True)
    ys_of(cell).sum().backward()
    assert Again.replays == 4


def test_failed_capture_warns_once(kept: cache.Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = canton.GRUCell(3, 4)
    monkeypatch.setattr(Again, "fails", RuntimeError("operation not permitted when stream is capturing"))
    with torch.no_grad():
        ys_of(cell)
        with pytest.warns(RuntimeWarning, match="cannot be captured.*not permitted"):
            ys_of(cell)
        run = run_of(cell)
        assert_close(cuda_graphs.execute(run, partial(loop, cell=cell))[0], loop(run, cell)[0])
    assert len(kept) == 0


def test_out_of_memory_defers_the_capture(kept: cache.Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was recorded goes: it may hold the memory that is wanted."""
    cell = canton.GRUCell(3, 4)
    with torch.no_grad():
        for _ in range(2):
            ys_of(cell, steps=6)
        assert len(kept) == 1
        monkeypatch.setattr(Again, "fails", torch.OutOfMemoryError("CUDA out of memory"))
        for _ in range(2):
            run = run_of(cell)
            assert_close(cuda_graphs.execute(run, partial(loop, cell=cell))[0], loop(run, cell)[0])
        assert len(kept) == 0
        monkeypatch.setattr(Again, "fails", None)
        for _ in range(65):
            assert len(kept) == 0
            ys_of(cell)
        assert len(kept) == 1


def test_form_distinguishes_inputs() -> None:
    def formed(thing: object) -> object:
        return capture.form(thing, [])

    a = torch.zeros(2, 3)
    assert formed((a, None)) == formed((torch.ones(2, 3), None))
    different = (
        (a,),
        (None, a),
        (a.t(),),
        (a.t().contiguous(),),
        (a.double(),),
        (a[:1].expand(2, 3),),
        [a],
        Dense(a),
        (a, 1),
        (a, True),
        (a.to("meta"),),
    )
    assert len({formed(thing) for thing in different}) == len(different)


class Own(Tensor):
    """Somebody's."""


def test_unsupported_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = canton.GRUCell(3, 4)
    run = run_of(cell)
    assert kernels.explain(run)["cuda_graphs"] == "it needs a GPU"
    with pytest.raises(ValueError, match="cuda_graphs"):
        canton.GRU(3, 4, kernel="cuda_graphs")(torch.randn(5, 2, 3))
    huge = run._replace(gx=torch.zeros(()).expand(1 << 20, 64, 12), state=(torch.zeros(64, 4),))
    monkeypatch.setattr(cuda_graphs, "_capturing", lambda device: True)
    monkeypatch.setattr(cuda_graphs, "_is_on_gpu", lambda run: True)
    assert "12.0 GiB" in str(cuda_graphs.unsupported_reason(huge))
    assert cuda_graphs.unsupported_reason(run) == "a CUDA graph is already being captured"
    with torch.autocast("cpu"):
        assert str(cuda_graphs.unsupported_reason(run)).startswith("autocast")
    assert "subclass" in str(cuda_graphs.unsupported_reason(run._replace(gx=run.gx.as_subclass(Own))))
    mixed = run._replace(gx=run.gx.double())
    assert "one floating dtype" in str(cuda_graphs.unsupported_reason(mixed))
