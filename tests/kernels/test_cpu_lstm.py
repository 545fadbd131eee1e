"""The C++ LSTM against the reference loop, in every instruction set of this machine."""

from __future__ import annotations

import pytest
import torch

from canton import LSTMCell, maps
from canton.core.recurrent import Recurrent
from canton.kernels import cpu
from gradients import assert_equals_loop, results
from tolerances import assert_close

pytestmark = pytest.mark.skipif(not cpu.available(), reason=f"no C++ kernels: {cpu.why_not()}")


def layer_of(hidden: int, made: maps.Map = maps.dense) -> Recurrent:
    return Recurrent(LSTMCell(3, hidden, map=made))


def state_of(layer: Recurrent, batch: int, *space: int) -> tuple[torch.Tensor, ...]:
    return tuple(torch.rand(1, batch, size, *space) * 2 - 1 for size in layer.state_sizes)


@pytest.mark.parametrize("steps", [1, 2, 11])
@pytest.mark.parametrize("batch", [1, 3, 17])
@pytest.mark.parametrize("hidden", [1, 7, 16, 33])
def test_dense(instructions: str, hidden: int, batch: int, steps: int) -> None:
    layer, xs = layer_of(hidden), torch.randn(steps, batch, 3)
    assert_equals_loop(layer, xs, "cpp")
    assert_equals_loop(layer, xs, "cpp", state_of(layer, batch))


CONVOLUTIONS = {
    "1d": (maps.conv1d(3), (6,)),
    "tiles-3": (maps.conv2d(3), (5, 9)),
    "tiles-5-circular": (maps.conv2d(5, padding_mode="circular"), (7, 6)),
    "even-dilated": (maps.conv2d((2, 3), dilation=(3, 2)), (5, 6)),
    "3d": (maps.conv3d((3, 2, 1)), (3, 2, 2)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("batch", [1, 3])
def test_convolutions(instructions: str, name: str, batch: int) -> None:
    made, space = CONVOLUTIONS[name]
    layer = layer_of(9, made)
    assert_equals_loop(layer, torch.randn(4, batch, 3, *space), "cpp", state_of(layer, batch, *space))


@pytest.mark.parametrize(("made", "space"), [(maps.dense, ()), (maps.conv2d(3), (11, 9))])
@pytest.mark.parametrize("batch", [1, 17])
def test_threads_do_not_change_the_bits(made: maps.Map, space: tuple[int, ...], batch: int) -> None:
    layer, xs = layer_of(9, made), torch.randn(5, batch, 3, *space)
    layer.kernel = "cpp"
    alone = results(layer, xs)
    torch.set_num_threads(2)
    together = results(layer, xs)
    torch.set_num_threads(1)
    for name in ("ys", "state 0", "state 1", "xs gradient"):
        if name != "xs gradient":  # torch's own product, at its own number of threads
            assert torch.equal(alone[name], together[name]), name
        assert_close(together[name], alone[name], name)


def test_without_gradients() -> None:
    layer, xs = layer_of(33), torch.randn(7, 4, 3)
    layer.kernel = "cpp"
    ys, (h, c) = layer(xs)
    with torch.no_grad():
        again, (h_again, c_again) = layer(xs)
    assert torch.equal(ys, again)
    assert torch.equal(h, h_again)
    assert torch.equal(c, c_again)


def test_streaming_equals_one_run(instructions: str) -> None:
    layer, xs = layer_of(9, maps.conv2d(3)), torch.randn(4, 2, 3, 6, 7)
    with torch.no_grad():
        ys, (_, c) = layer(xs)
        state = None
        for x, y in zip(xs, ys, strict=True):
            out, state = layer.step(x, state)
            assert_close(out, y)
    assert_close(state[1], c)


def test_gradients_of_gradients() -> None:
    layer, found = layer_of(5), {}
    for kernel in ("loop", "cpp"):
        layer.kernel = kernel
        xs = torch.ones(3, 2, 3).mul_(0.3).requires_grad_()
        ys, (_, c) = layer(xs)
        (d,) = torch.autograd.grad(ys.square().sum() + c.sum(), xs, create_graph=True)
        weight = layer.cells[0].hidden_map.weight
        (found[kernel],) = torch.autograd.grad(d.square().sum(), weight)
    assert_close(found["cpp"], found["loop"])


def test_peepholes_and_projections_use_manual() -> None:
    xs = torch.randn(2, 2, 3)
    for cell in (LSTMCell(3, 6, peephole=True), LSTMCell(3, 6, proj_size=2)):
        assert Recurrent(cell).which(xs) == "manual"
