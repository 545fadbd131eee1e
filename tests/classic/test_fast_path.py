"""Recurrent Cans with Canton's kernels compute what the one-pass Can computes step by step."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("numpy", reason="canton.classic needs numpy (canton-torch[classic])")
pytest.importorskip("safetensors", reason="canton.classic needs safetensors (canton-torch[classic])")

import torch
from torch import Tensor, nn

from canton import classic
from canton.classic import fast_path
from canton.classic.scanning import Recurrence
from tolerances import assert_close

STEPS = fast_path.MIN_STEPS + 3

CASES: dict[str, tuple[Callable[[], Recurrence], tuple[int, ...]]] = {
    "GRU": (lambda: classic.GRU(3, 5), (2, STEPS, 3)),
    "GRU without bias": (lambda: classic.GRU(3, 5, bias=False), (2, STEPS, 3)),
    "GRU2": (lambda: classic.GRU2(3, 5), (2, STEPS, 3)),
    "RNN": (lambda: classic.RNN(3, 5), (2, STEPS, 3)),
    "RNN of relu": (lambda: classic.RNN(3, 5, nonlinearity=classic.Act("relu")), (1, STEPS, 3)),
    "GRUConv2D": (lambda: classic.GRUConv2D(3, 5, k=3), (2, STEPS, 6, 7, 3)),
    "GRUConv2D, rate 2": (lambda: classic.GRUConv2D(3, 5, k=3, rate=2), (1, STEPS, 6, 7, 3)),
    "GRUConv2D, tiles": (lambda: classic.GRUConv2D(16, 16, k=5), (1, STEPS, 12, 16, 16)),
}


class OwnStep(classic.GRU_onepass):
    """A step that the cell does not compute."""

    def forward(self, i: list[Tensor]) -> Tensor:
        return -super().forward(i)


class OwnCall(classic.GRU_onepass):
    """The same step, defined in `__call__` as in 2017."""

    def __call__(self, i: list[Tensor]) -> Tensor:
        return -super().__call__(i)


class OwnMap(classic.Dense):
    """A map that the cell does not have."""

    def forward(self, i: Tensor) -> Tensor:
        return super().forward(i) + 1


def with_own_map() -> Recurrence:
    gru = classic.GRU(3, 5)
    gru.unit.wr = OwnMap(8, 5)
    return gru


def hooked() -> Recurrence:
    gru = classic.GRU(3, 5)
    gru.unit.w.register_forward_hook(lambda module, inputs, output: output + 1)
    return gru


def with_weight_norm() -> Recurrence:
    gru = classic.GRU(3, 5)
    nn.utils.parametrizations.weight_norm(gru.unit.w, "W")
    return gru


STEP_BY_STEP: dict[str, Callable[[], Recurrence]] = {
    "own step": lambda: classic.rnn_gen("A", OwnStep)(3, 5),
    "own call": lambda: classic.rnn_gen("A", OwnCall)(3, 5),
    "own map": with_own_map,
    "hook": hooked,
    "weight norm": with_weight_norm,
    "GRULN": lambda: classic.GRULN(3, 5),
    "GRU2 of doubles": lambda: classic.GRU2(3, 5, double=True),
    "RNN of sigmoid": lambda: classic.RNN(3, 5, nonlinearity=classic.Act("sigmoid")),
    "RNN of a function": lambda: classic.RNN(3, 5, nonlinearity=torch.sin),
    "even kernel": lambda: classic.GRUConv2D(3, 5, k=4),
}


def step_by_step(rnn: Recurrence, xs: Tensor, state: Tensor) -> Tensor:
    """Return the expected states: call the one-pass Can for each step."""
    return torch.stack([state := rnn.unit([state, x]) for x in xs.unbind(1)], 1)


def start(rnn: Recurrence, xs: Tensor) -> Tensor:
    return torch.randn(xs.shape[0], *xs.shape[2:-1], rnn.unit.num_h, dtype=xs.dtype).requires_grad_()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_outputs_and_gradients(case: str, dtype: torch.dtype) -> None:
    make, shape = CASES[case]
    rnn = make().to(dtype)
    xs = torch.randn(shape, dtype=dtype).requires_grad_()
    state = start(rnn, xs)
    assert (cell := rnn._cell()) is not None
    assert fast_path.can_run(cell, xs, state)
    found, expected = rnn(xs, starting_state=state), step_by_step(rnn, xs, state)
    assert_close(found, expected, "states")
    with torch.no_grad():
        assert_close(rnn(xs, starting_state=state), expected, "states, no gradients")
    leaves, probe = [xs, state, *rnn.get_weights()], torch.randn_like(expected)
    grads = (torch.autograd.grad((ys * probe).sum(), leaves) for ys in (found, expected))
    for index, (one, other) in enumerate(zip(*grads, strict=True)):
        assert_close(one, other, f"gradient {index}")


@pytest.mark.parametrize("case", STEP_BY_STEP)
def test_what_no_cell_computes_runs_step_by_step(case: str) -> None:
    rnn = STEP_BY_STEP[case]()
    xs = torch.randn(2, STEPS, *((5, 6) if case == "even kernel" else ()), 3)
    state = start(rnn, xs)
    assert rnn._cell() is None
    assert torch.equal(rnn(xs, starting_state=state), step_by_step(rnn, xs, state))


def test_a_subclass_with_other_maps_uses_the_kernels() -> None:
    """As in 2017: the subclass makes the maps and inherits the step."""

    class Conv(classic.GRU_onepass):
        def __init__(self, num_in: int, num_h: int, **options: Any) -> None:
            classic.Can.__init__(self)
            self.num_in, self.num_h = num_in, num_h
            for name in ("wz", "wr", "w"):
                setattr(self, name, self.add(classic.Conv2D(num_in + num_h, num_h, usebias=True, **options)))

    rnn = classic.rnn_gen("Video", Conv)(2, 3, k=3)
    xs = torch.randn(1, STEPS, 4, 5, 2)
    state = start(rnn, xs)
    assert rnn._cell() is not None
    assert_close(rnn(xs, starting_state=state), step_by_step(rnn, xs, state))


def test_a_gradient_of_a_gradient() -> None:
    rnn = classic.GRU(2, 2).double()
    xs = torch.randn(1, STEPS, 2, dtype=torch.float64, requires_grad=True)
    weights = rnn.get_weights()

    def penalty(ys: Tensor) -> list[Tensor]:
        (g,) = torch.autograd.grad(ys.sin().sum(), xs, create_graph=True)
        return list(torch.autograd.grad(g.square().sum(), [xs, *weights]))

    state = torch.zeros(1, 2, dtype=torch.float64)
    for one, other in zip(penalty(rnn(xs)), penalty(step_by_step(rnn, xs, state)), strict=True):
        assert_close(one, other)


def test_changed_weights_are_used_and_a_copy_has_its_own() -> None:
    rnn, xs = classic.GRU(3, 5), torch.randn(2, STEPS, 3)
    first, other = rnn(xs), copy.deepcopy(rnn)
    with torch.no_grad():
        for weight in rnn.get_weights():
            weight.mul_(2)
    assert not torch.allclose(rnn(xs), first)
    assert torch.equal(other(xs), first)
    rnn.load_state_dict(other.state_dict())
    assert torch.equal(rnn(xs), first)


@pytest.mark.parametrize("case", ["GRU", "GRUConv2D"])
@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.float16, torch.bfloat16])
def test_an_input_of_another_dtype_runs_step_by_step(case: str, dtype: torch.dtype) -> None:
    """Concatenation promotes it to the state's dtype."""
    make, shape = CASES[case]
    rnn, xs = make(), torch.randint(0, 4, shape).to(dtype)
    state = start(rnn, xs.float())
    assert torch.equal(rnn(xs, starting_state=state), step_by_step(rnn, xs, state))


@pytest.mark.parametrize("dtype", [torch.int64, torch.float16])
def test_a_state_of_another_dtype_runs_step_by_step(dtype: torch.dtype) -> None:
    rnn, xs = classic.GRU(3, 5), torch.randn(2, STEPS, 3)
    state = torch.randint(-1, 2, (2, 5)).to(dtype)
    assert torch.equal(rnn(xs, starting_state=state), step_by_step(rnn, xs, state))


def test_a_state_of_another_size_is_refused() -> None:
    with pytest.raises(RuntimeError):
        classic.GRU(3, 5)(torch.randn(2, STEPS, 3), starting_state=torch.zeros(2, 4))


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # torch's own forward-mode rules
def test_transforms_and_the_meta_device() -> None:
    rnn, xs = classic.GRU(3, 5), torch.randn(4, 2, STEPS, 3)
    assert_close(torch.func.vmap(rnn)(xs), torch.stack([rnn(x) for x in xs]))
    tangent = torch.randn(2, STEPS, 3)
    _, found = torch.func.jvp(rnn, (xs[0],), (tangent,))
    _, expected = torch.func.jvp(lambda x: step_by_step(rnn, x, torch.zeros(2, 5)), (xs[0],), (tangent,))
    assert_close(found, expected)
    assert rnn.to("meta")(xs[0].to("meta")).shape == (2, STEPS, 5)


@pytest.mark.filterwarnings("ignore:.torch.jit")
@pytest.mark.parametrize("case", ["GRU", "GRUConv2D"])
def test_trace_export_and_compile(case: str) -> None:
    make, shape = CASES[case]
    rnn, xs = make(), torch.randn(shape)
    expected = rnn(xs).detach()
    traced = torch.jit.trace(rnn, (xs,), check_trace=False)
    assert "prim::PythonOp" not in {node.kind() for node in traced.inlined_graph.nodes()}
    for name, found in (
        ("traced", traced(xs)),
        ("exported", torch.export.export(rnn, (xs,)).module()(xs)),
        ("compiled", torch.compile(rnn, backend="eager")(xs)),
    ):
        assert_close(found.detach(), expected, name)
