"""recompute=True gives the same outputs and gradients with less memory, or an error."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import canton
from canton.core.recurrent import Recurrent
from gradients import results
from tolerances import assert_close

LAYERS = {
    "gru": lambda **o: canton.GRU(3, 8, num_layers=2, bidirectional=True, learn_initial_state=True, **o),
    "gru-after": lambda **o: canton.GRU(3, 8, reset="after", layer_norm=True, **o),
    "lstm": lambda **o: canton.LSTM(
        3, 8, peephole=True, proj_size=2, zoneout=0.2, recurrent_dropout=0.2, **o
    ),
    "mgu": lambda **o: canton.MGU(3, 8, num_layers=2, dropout=0.4, **o),
    "mingru": lambda **o: canton.MinGRU(3, 8, zoneout=0.2, **o),
    "convgru": lambda **o: canton.ConvGRU2d(3, 8, 3, **o),
}


def both(name: str, **options: object) -> tuple[Recurrent, Recurrent]:
    """Return two equal layers: one without recompute, one with it."""
    plain, recomputed = LAYERS[name](**options), LAYERS[name](recompute=True, **options)
    recomputed.load_state_dict(plain.state_dict())
    return plain, recomputed


def sequence(name: str, steps: int) -> Tensor:
    return torch.randn(steps, 4, 3, *((4, 5) if name == "convgru" else ()))


@pytest.mark.parametrize("kernel", ["auto", "loop"])
@pytest.mark.parametrize("options", ["plain", "lengths", "reset"])
@pytest.mark.parametrize("steps", [1, 2, 17])
@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_the_same(name: str, steps: int, options: str, kernel: str) -> None:
    plain, recomputed = both(name, kernel=kernel)
    xs, given = sequence(name, steps), {}
    if options == "lengths":
        given["lengths"] = torch.tensor([steps, 0, 1, steps // 2])
    if options == "reset":
        given["reset"] = torch.rand(steps, 4) < 0.3
    expected, actual = results(plain, xs, **given), results(recomputed, xs, **given)
    assert actual.keys() == expected.keys()
    for what, value in expected.items():
        assert_close(actual[what], value, what=what)


def test_integer_input() -> None:
    plain, recomputed = (canton.GRU(256, 8, recompute=r) for r in (False, True))
    recomputed.load_state_dict(plain.state_dict())
    data = torch.randint(256, (17, 4), dtype=torch.uint8)
    expected, actual = results(plain, data), results(recomputed, data)
    for what, value in expected.items():
        assert_close(actual[what], value, what=what)


def saved_bytes(layer: nn.Module, xs: Tensor) -> int:
    """Return how many bytes forward saves for backward, without the parameters and the input."""
    known = {t.untyped_storage().data_ptr() for t in (xs, *layer.parameters())}
    actual: dict[int, int] = {}
    alive: list[Tensor] = []

    def pack(t: Tensor) -> Tensor:
        if t.untyped_storage().data_ptr() not in known:
            actual[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            alive.append(t)  # keeps its address in use
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        layer(xs)
    return sum(actual.values())


@pytest.mark.parametrize("name", ["gru-after", "mingru", "convgru"])
@pytest.mark.parametrize("kernel", ["auto", "loop"])
def test_less_memory_is_saved(name: str, kernel: str) -> None:
    plain, recomputed = both(name, kernel=kernel)
    plain.zoneout = recomputed.zoneout = 0.0
    steps, xs = 100, sequence(name, 100).requires_grad_()
    state = 4 * xs[0, :, 0].numel() * 8  # bytes of one state
    assert saved_bytes(plain, xs) >= 3 * steps * state
    # the states between segments, and at most as many bytes for their concatenation
    assert saved_bytes(recomputed, xs) <= 2 * 10 * state
    with torch.no_grad():
        assert saved_bytes(recomputed, xs) == 0


def test_a_changed_parameter_is_an_error() -> None:
    layer = canton.GRU(3, 4, recompute=True)
    ys, _ = layer(torch.randn(5, 2, 3))
    with torch.no_grad():
        layer.cells[0].hidden_map.weight.mul_(2)
    with pytest.raises(RuntimeError, match="recompute"):
        ys.sum().backward()


def test_another_parameter_is_an_error() -> None:
    layer = canton.GRU(3, 4, recompute=True)
    others = {name: (p * 2).detach().requires_grad_() for name, p in layer.named_parameters()}
    ys, _ = torch.func.functional_call(layer, others, (torch.randn(5, 2, 3),))
    with pytest.raises(RuntimeError, match="recompute"):
        ys.sum().backward()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int64])
def test_lengths_of_any_integer_type(dtype: torch.dtype) -> None:
    """Differences of lengths and steps are negative, which uint8 cannot hold."""
    layer, xs = canton.GRU(3, 4, bidirectional=True), torch.randn(100, 3, 3)
    plain, last = layer(xs, lengths=torch.tensor([2, 100, 0]))
    for kernel in ("loop", "auto"):
        for recompute in (True, False):
            layer.kernel, layer.recompute = kernel, recompute
            ys, end = layer(xs, lengths=torch.tensor([2, 100, 0], dtype=dtype))
            assert_close(ys, plain)
            assert_close(end, last)
    assert not ys[2:, 0].any()


def test_transforms_of_torch_func_do_not_recompute() -> None:
    layer, xs = canton.GRU(3, 4, recompute=True), torch.randn(5, 2, 3)
    actual = torch.func.grad(lambda x: layer(x)[0].sum())(xs)
    layer.recompute = False
    assert_close(actual, torch.func.grad(lambda x: layer(x)[0].sum())(xs))


def test_gradients_of_gradients() -> None:
    layer = canton.GRU(3, 4, recompute=True).double()
    xs = torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: layer(x)[0], xs)
    assert torch.autograd.gradgradcheck(lambda x: layer(x)[0], xs)
