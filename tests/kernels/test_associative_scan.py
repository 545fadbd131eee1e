"""The associative scan of the minGRU against the loop, and its cost."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from canton import MinGRU, maps
from canton.kernels import cpu
from canton.kernels.associative_scan import recurrence
from gradients import assert_equals_loop, results
from tolerances import assert_close


def stepwise(a: Tensor, b: Tensor, h: Tensor) -> Tensor:
    states = []
    for a_t, b_t in zip(a, b, strict=True):
        h = a_t * h + b_t
        states.append(h)
    return torch.stack(states)


@pytest.mark.parametrize("width", [1, 3, 3000])
@pytest.mark.parametrize("steps", [1, 2, 7, 8, 9, 16, 31, 100, 257])
def test_recurrence(steps: int, width: int) -> None:
    a, b, h = torch.rand(steps, width), torch.randn(steps, width), torch.randn(width)
    assert_close(recurrence(a, b, h), stepwise(a.double(), b.double(), h.double()))


def test_products_that_vanish_or_never_decay() -> None:
    """The results stay exact if the product of all a vanishes, and if a is 1."""
    for a_value in (0.0, 1e-30, 1 - 2**-24, 1.0):
        a, b = torch.full((3000, 2), a_value), torch.randn(3000, 2)
        assert_close(
            recurrence(a, b, torch.tensor([-3.0, 5.0])),
            stepwise(a.double(), b.double(), torch.tensor([-3.0, 5.0]).double()),
        )


@pytest.mark.parametrize("kernel", ["associative_scan", "auto"])
def test_gradients_at_zero(kernel: str) -> None:
    """The candidate's activation has a corner at 0, where silence and zero weights put every unit."""
    layer = MinGRU(3, 4)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
    assert_equals_loop(layer, torch.zeros(5, 2, 3), kernel, (torch.rand(1, 2, 4),))


@pytest.mark.parametrize("options", ["plain", "lengths", "reset", "both", "zoneout"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("steps", "hidden"), [(1, 4), (37, 5), (12, 700)])
def test_layer_equals_the_loop(steps: int, hidden: int, dtype: torch.dtype, options: str) -> None:
    layer = MinGRU(
        3, hidden, bidirectional=True, zoneout=0.3 * (options == "zoneout"), learn_initial_state=True
    )
    layer = layer.to(dtype)
    xs, given = torch.randn(steps, 4, 3, dtype=dtype), {}
    state = None if options == "reset" else (torch.randn(2, 4, hidden, dtype=dtype),)
    if options in ("lengths", "both"):
        given["lengths"] = torch.tensor([steps, 0, 1, steps // 2])
    if options in ("reset", "both"):
        given["reset"] = torch.rand(steps, 4) < 0.3
    assert_equals_loop(layer, xs, "associative_scan", state, **given)
    plain = options == "plain" and dtype is torch.float32 and cpu.available()
    layer.kernel = "auto"
    if not given:
        assert layer.which(xs) == ("cpp" if plain else "associative_scan")
    assert_equals_loop(layer, xs, "auto", state, **given)


def test_gradients_of_gradients() -> None:
    layer = MinGRU(3, 4, kernel="associative_scan").double()
    xs = torch.randn(9, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: layer(x)[0], xs)
    assert torch.autograd.gradgradcheck(lambda x: layer(x)[0], xs)


def test_runs_are_reproducible() -> None:
    layer, xs = MinGRU(3, 4, kernel="associative_scan"), torch.randn(33, 2, 3)
    first, second = results(layer, xs), results(layer, xs)
    assert all(torch.equal(first[name], second[name]) for name in first)


class Cost(TorchDispatchMode):
    """Counts operations and their output elements."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and out._base is None:  # views cost nothing
            self.operations += 1
            self.numbers += out.numel()
        return out


def cost(steps: int) -> Cost:
    layer, xs = MinGRU(3, 4, kernel="associative_scan"), torch.randn(steps, 2, 3)
    with Cost() as counted:
        layer(xs)[0].sum().backward()
    return counted


def test_work_grows_with_the_steps_and_depth_with_their_logarithm() -> None:
    small, middle, large = cost(256), cost(512), cost(1024)
    assert 1.9 < large.numbers / middle.numbers < 2.1
    assert large.operations - middle.operations == middle.operations - small.operations < 60


@pytest.mark.skipif(not cpu.available(), reason=str(cpu.why_not()))
@pytest.mark.parametrize("instructions", cpu.INSTRUCTION_SETS)
@pytest.mark.parametrize(
    ("steps", "batch", "hidden", "space"), [(1, 1, 1, ()), (7, 5, 33, ()), (3, 2, 3, (5, 3))]
)
def test_cpp(steps: int, batch: int, hidden: int, space: tuple[int, ...], instructions: str) -> None:
    best = cpu.instruction_set()
    if cpu.INSTRUCTION_SETS.index(instructions) > cpu.INSTRUCTION_SETS.index(best):
        pytest.skip(f"this processor has no {instructions}")
    layer = MinGRU(3, hidden, map=maps.conv2d(3) if space else maps.dense)
    xs, state = torch.randn(steps, batch, 3, *space), (torch.randn(1, batch, hidden, *space),)
    try:
        cpu.use_instruction_set(instructions)
        found = assert_equals_loop(layer, xs, "cpp", state)
        torch.set_num_threads(2)
        together = results(layer, xs, state)
    finally:
        cpu.use_instruction_set(best)
    for name in ("ys", "state 0", "first state 0 gradient"):  # the others are torch's own products
        assert torch.equal(found[name], together[name]), name


@pytest.mark.parametrize("kernel", ["associative_scan", *(["cpp"] if cpu.available() else [])])
def test_nan_and_inf_propagate(kernel: str) -> None:
    layer, xs = MinGRU(3, 4), torch.randn(9, 2, 3)
    xs[4, 1, 2] = float("nan")
    layer.kernel = kernel
    ys = layer(xs)[0]
    assert ys[4:, 1].isnan().all()
    assert ys[:4, 1].isfinite().all()
    assert ys[:, 0].isfinite().all()
