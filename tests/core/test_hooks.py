"""Hooks on maps, reparametrised weights and overridden forwards are respected."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune, spectral_norm, weight_norm

import canton
from canton import Recurrent
from tolerances import assert_close

LAYERS: dict[str, Callable[[], Recurrent]] = {
    "gru": lambda: canton.GRU(8, 16),
    "gru after": lambda: canton.GRU(8, 16, reset="after"),
    "lstm": lambda: canton.LSTM(8, 16),
    "rnn": lambda: canton.RNN(8, 16),
    "mgu": lambda: canton.MGU(8, 16),
    "conv gru": lambda: canton.ConvGRU2d(8, 16, 3),
}
every_layer = pytest.mark.parametrize("name", LAYERS)


def layer_pair(name: str) -> tuple[Recurrent, Recurrent, Tensor]:
    """Return equal layers with kernel="auto" and kernel="loop", and a sequence."""
    fast, plain = LAYERS[name](), LAYERS[name]()
    plain.load_state_dict(fast.state_dict())
    plain.kernel = "loop"
    return fast, plain, torch.randn(5, 2, 8, *((6, 7) if name == "conv gru" else ()))


def hidden(layer: Recurrent) -> nn.Module:
    module = layer.cells[0].hidden_map
    assert isinstance(module, nn.Module)
    return module


@every_layer
def test_hooks_run_at_every_step(name: str) -> None:
    fast, plain, xs = layer_pair(name)
    before, _ = fast(xs)
    for layer in (fast, plain):
        hidden(layer).register_forward_hook(lambda module, given, y: 0 * y)
    ys, _ = fast(xs)
    assert_close(ys, plain(xs)[0])
    assert (ys - before).abs().max() > 1e-2
    x, _ = fast.step(xs[0])
    assert_close(x, ys[0])
    assert fast.which(xs) == "loop"


@every_layer
def test_a_forward_set_on_the_module_runs(name: str) -> None:
    fast, plain, xs = layer_pair(name)
    for layer in (fast, plain):
        module = hidden(layer)
        own = module.forward
        module.forward = lambda h, own=own: 3 * own(h)  # type: ignore[method-assign,misc]
    assert_close(fast(xs)[0], plain(xs)[0])


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
@every_layer
def test_reparametrised_weights_train(name: str) -> None:
    """Two training steps with torch's hook-based reparametrisations give the loop's weights."""
    for make in (weight_norm, spectral_norm, lambda m: prune.l1_unstructured(m, "weight", amount=0.5)):
        fast, plain, xs = layer_pair(name)
        for layer in (fast, plain):
            torch.manual_seed(3)  # spectral_norm draws a start vector
            make(hidden(layer))
            optimizer = torch.optim.SGD(layer.parameters(), 0.1)
            for _ in range(2):
                optimizer.zero_grad()
                layer(xs)[0].square().sum().backward()
                optimizer.step()
            assert all(p.grad is not None for p in layer.parameters())
        for (key, p), q in zip(fast.named_parameters(), plain.parameters(), strict=True):
            assert_close(p, q, key, slack=20)


def test_integers_go_through_hooks_and_custom_maps() -> None:
    class Twice(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    for layer in (canton.GRU(8, 16), canton.GRU(8, 16, map=Twice)):
        layer.cells[0].input_map.register_forward_hook(lambda module, given, y: y + 1)
        index = torch.randint(0, 8, (5, 2))
        one_hot = nn.functional.one_hot(index, 8).float()
        assert_close(layer(index)[0], layer(one_hot)[0])
        assert_close(layer.step(index[0])[0], layer.step(one_hot[0])[0])


def test_weights_of_wrong_shapes_are_never_read_out_of_bounds() -> None:
    """C++ and Triton kernels use addresses, so torch must reject weights that do not fit."""
    for layer, shape in (
        (canton.GRU(4, 5), (10, 3)),
        (canton.GRU(4, 5), (10, 7)),
        (canton.LSTM(4, 5), (20, 3)),
    ):
        layer.cells[0].hidden_map.weight = nn.Parameter(torch.ones(shape))
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            layer(torch.randn(2, 3, 4))
        layer.kernel = "cpp"
        with pytest.raises(ValueError, match="channels"):
            layer(torch.randn(2, 3, 4))
