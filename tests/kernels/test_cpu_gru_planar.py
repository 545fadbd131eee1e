"""The C++ GRU with vectors along image rows, for few channels, against the same equations in float64."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from canton import ConvGRU2d
from canton.cells.gru import GRUBeforeSpec
from canton.kernels import Run, cpu
from kernels.test_cpu import conv, cpp_run, readable, run_of
from tolerances import assert_close

pytestmark = pytest.mark.skipif(not cpu.available(), reason=f"no C++ kernels: {cpu.why_not()}")


@dataclass(frozen=True)
class Case:
    kernel: tuple[int, ...]
    dilation: tuple[int, ...]
    space: tuple[int, ...]


CASES = {
    "3x3": Case((3, 3), (1, 1), (5, 8)),
    "5x5": Case((5, 5), (1, 1), (4, 33)),
    "a whole stretch": Case((3, 3), (1, 1), (3, 32)),
    "one line": Case((3, 3), (1, 1), (1, 17)),
    "even": Case((2, 4), (1, 1), (6, 19)),
    "dilated": Case((3, 3), (2, 3), (9, 23)),
    "flat": Case((1, 3), (1, 1), (4, 70)),
    "1d": Case((5,), (2,), (40,)),
}


def wide(run: Run) -> Run:
    """The same in float64."""
    spec = run.spec
    assert isinstance(spec, GRUBeforeSpec)
    products = (part._replace(weight=part.weight.double()) for part in spec.products)
    states = [(one.double(),) for (one,) in (run.state, run.reset_state)]
    return run._replace(
        spec=GRUBeforeSpec(*products), gx=run.gx.double(), state=states[0], reset_state=states[1]
    )


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("hidden", [1, 2, 4, 5, 8])
@pytest.mark.parametrize("batch", [1, 3])
def test_planar_gru_equals_the_equations(instructions: str, batch: int, hidden: int, name: str) -> None:
    case = CASES[name]
    run = run_of(conv(hidden, case.kernel, case.dilation, False), 4, batch, case.space)
    tiled = hidden == 8 and name in (
        "3x3",
        "5x5",
        "a whole stretch",
        "one line",
    )  # Winograd
    with torch.no_grad():
        assert cpu.is_quick(run) is (tiled or hidden <= cpu.LANES[instructions] // 2)
    exact = wide(run)
    with torch.inference_mode():
        ys, (final,) = cpp_run(run)
        expected, (last,) = readable(exact.spec, exact)
    assert_close(ys, expected, "ys")
    assert_close(final, last, "final")


def test_reset_restarts_rows(instructions: str) -> None:
    run = run_of(conv(2, (3, 3), (1, 1), False), 5, 2, (4, 21))
    fresh = (torch.randn_like(run.state[0]),)
    reset = torch.tensor([[0, 1], [0, 0], [1, 0], [1, 1], [0, 0]], dtype=torch.bool)
    state, ys = run.state[0], []
    with torch.inference_mode():
        for gx, now in zip(run.gx, reset, strict=True):
            state = torch.where(now.view(-1, 1, 1, 1), fresh[0], state)
            one, (state,) = readable(run.spec, run._replace(gx=gx.unsqueeze(0), state=(state,)))
            ys.append(one[0])
        found, (final,) = cpp_run(run._replace(reset_state=fresh, reset=reset))
    assert_close(found, torch.stack(ys), "ys")
    assert_close(final, state, "final")


@pytest.mark.parametrize("batch", [1, 3])
def test_threads_do_not_change_the_bits(batch: int) -> None:
    run = run_of(conv(2, (3, 3), (1, 1), False), 6, batch, (7, 37))
    found: list[Tensor] = []
    before = torch.get_num_threads()
    try:
        with torch.inference_mode():
            for threads in (1, 2):
                torch.set_num_threads(threads)
                found.append(cpp_run(run)[0])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)


def test_gradients_do_not_change_the_outputs() -> None:
    run = run_of(conv(2, (3, 3), (1, 1), False), 6, 2, (7, 37))
    with torch.inference_mode():
        alone = cpp_run(run)[0]
    kept = cpp_run(run._replace(gx=run.gx.clone().requires_grad_()))[0]
    assert_close(alone, kept.detach(), "ys")


RULED = [((5, 5), (1, 1), (20, width)) for width in (7, 8, 33)]
RULED += [((3, 3), dilation, (20, 33)) for dilation in ((1, 1), (2, 1))] + [((7,), (1,), (90,))]
RULED += [((1, 5, 5), (1, 1, 1), (depth, 20, 33)) for depth in (1, 2)]
RULED += [((1, 5, 5), (1, 1, 2), (1, 20, 33)), ((2, 5, 5), (1, 1, 1), (1, 20, 33))]


@pytest.mark.parametrize(("kernel", "dilation", "space"), RULED)
@pytest.mark.parametrize("hidden", [2, 4, 7, 8, 9])
def test_planar_gru_runs_where_it_is_quicker(
    instructions: str, hidden: int, kernel: tuple[int, ...], dilation: tuple[int, ...], space: tuple[int, ...]
) -> None:
    """With lengths, all of them whole, the other way runs; its sums come in another order."""
    run = run_of(conv(hidden, kernel, dilation, False), 6, 2, space)
    with torch.inference_mode():
        ys, _ = cpp_run(run)
        across, _ = cpp_run(run._replace(lengths=torch.tensor([6, 6])))
    assert_close(ys, across, "ys")
    tiled = hidden >= 8 and kernel[-2:] in ((3, 3), (5, 5)) and set(dilation[-2:]) == {1}
    flat = len(space) < 3 or kernel[0] * space[0] == 1
    planar = flat and not tiled and space[-1] >= 8 and hidden <= cpu.LANES[instructions] // 2
    assert torch.equal(ys, across) is not planar


def test_streaming_steps_use_it() -> None:
    layer, x = ConvGRU2d(3, 2, 3), torch.randn(1, 3, 20, 30)
    run = run_of(conv(2, (3, 3), (1, 1), False), 1, 1, (20, 30))
    with torch.inference_mode():
        assert cpu.is_quick(run)
        y, _ = layer.step(x)
        ys, _ = layer(x.unsqueeze(0))
    assert torch.equal(y, ys[0])
    assert not cpu.is_quick(run._replace(lengths=torch.tensor([1])))
    assert not cpu.is_quick(run._replace(gx=run.gx.clone().requires_grad_()))
