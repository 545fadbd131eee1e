"""`step` computes what the reference loop computes, also after the weights changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

import canton
from canton.core.recurrent import Recurrent
from canton.kernels import cpu
from tolerances import assert_close

LAYERS: dict[str, tuple[Callable[..., Recurrent], tuple[int, ...]]] = {
    "dense": (lambda **o: canton.GRU(8, 9, num_layers=2, **o), ()),
    "lstm": (lambda **o: canton.LSTM(8, 9, **o), ()),
    "mingru": (lambda **o: canton.MinGRU(8, 9, **o), ()),
    "conv-5": (lambda **o: canton.ConvGRU2d(8, 9, 5, num_layers=2, **o), (7, 10)),
    "conv-3": (lambda **o: canton.ConvGRU2d(8, 16, 3, bias=False, padding_mode="circular", **o), (9, 6)),
    "conv-3-small": (lambda **o: canton.ConvGRU2d(8, 2, 3, **o), (5, 6)),
}
CHANGES: dict[str, Callable[[Recurrent], object]] = {
    "an optimiser": lambda layer: take_optimiser_step(layer),
    ".data": lambda layer: [p.data.mul_(1.5) for p in layer.parameters()],
    "load_state_dict": lambda layer: layer.load_state_dict({k: -v for k, v in layer.state_dict().items()}),
    "another dtype and back": lambda layer: layer.bfloat16().float(),
}


def take_optimiser_step(layer: Recurrent) -> None:
    for parameter in layer.parameters():
        parameter.grad = torch.ones_like(parameter)
    torch.optim.SGD(layer.parameters(), lr=0.1).step()
    layer.zero_grad(set_to_none=True)


def streamed(layer: Recurrent, xs: Tensor) -> Iterator[Tensor]:
    state = None
    for x in xs:
        y, state = layer.step(x, state)
        yield y


@pytest.mark.parametrize("name", LAYERS)
def test_steps_equal_the_sequence(name: str) -> None:
    make, space = LAYERS[name]
    layer, xs = make(), torch.randn(6, 2, 8, *space)
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            layer.kernel = "auto"
            steps = torch.stack(list(streamed(layer, xs)))
            layer.kernel = "loop"
            assert_close(steps, layer(xs)[0])
            assert_close(steps, torch.stack(list(streamed(layer, xs))))


@pytest.mark.parametrize("name", ["dense", "conv-5", "conv-3"])
def test_gradients_through_steps(name: str) -> None:
    make, space = LAYERS[name]
    layer, xs, found = make(), torch.randn(4, 2, 8, *space), []
    for kernel in ("auto", "loop"):
        layer.kernel = kernel
        layer.zero_grad()
        sum((k + 1) * y.square().sum() for k, y in enumerate(streamed(layer, xs))).backward()
        found.append({name: p.grad.clone() for name, p in layer.named_parameters()})
    for parameter, value in found[1].items():
        assert_close(found[0][parameter], value, parameter)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", LAYERS)
def test_changed_weights_are_used(name: str, change: str, mode: Callable[[], torch.no_grad]) -> None:
    make, space = LAYERS[name]
    layer, x = make(), torch.randn(2, 8, *space)

    def both() -> tuple[Tensor, Tensor]:
        results = []
        for kernel in ("auto", "loop"):
            layer.kernel = kernel
            with mode():
                results.append(layer.step(x, layer.step(x)[1])[0].clone())
        return results[0], results[1]

    before, truth = both()
    assert_close(before, truth)
    CHANGES[change](layer)
    after, truth = both()
    assert_close(after, truth)
    assert (after - before).abs().max() > 1e-4, "the change has no effect"


@pytest.mark.skipif(not cpu.available(), reason=str(cpu.why_not()))
def test_many_models_in_turn() -> None:
    """There are more weights than the cache holds, and weights at freed addresses."""
    x = torch.randn(1, 8, 5, 6)
    for _ in range(3):
        layers = [canton.ConvGRU2d(8, 8, 3) for _ in range(20)]
        for layer in layers:
            with torch.no_grad():
                found = layer.step(x)[0]
            layer.kernel = "loop"
            assert_close(found, layer.step(x)[0])
