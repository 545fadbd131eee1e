"""The class Can: its ordered lists, its printed lines, and its use as a torch module."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="canton.classic needs numpy (canton-torch[classic])")
pytest.importorskip("safetensors", reason="canton.classic needs safetensors (canton-torch[classic])")

import torch
from torch import Tensor, nn

from canton.classic import (
    GRU,
    BatchNorm,
    Can,
    Conv2D,
    Dense,
    Lambda,
    LastDimDense,
    ResConv,
    Reshape,
    get_training_state,
    set_training_state,
)
from classic.recorded import manifest
from classic.recorded_models import Text


def chained(*cans: nn.Module) -> Can:
    can = Can()
    can.incan(cans)
    can.chain()
    return can


def test_incan_returns_none_and_add_returns_the_can() -> None:
    can, dense = Can(), Dense(2, 3)
    assert can.incan(dense) is None
    assert can.add(dense) is dense
    assert can.subcans == (dense, dense)
    assert len(can.get_weights()) == 4, "a Can that was added twice is listed twice"
    assert len(list(can.parameters())) == 2, "torch lists it as one module"


def test_the_lists_of_a_tree() -> None:
    can = chained(Dense(2, 3), BatchNorm(3))
    assert [tuple(w.shape) for w in can.get_weights()] == [(2, 3), (3,), (3,), (3,)]
    assert len(can.get_biases()) == 3
    assert len(can.get_only_weights()) == 1
    assert len(can.traverse("variables")) == 2
    assert can.get_updates() == []
    assert can.traverse("weights", lambda w: [w.dim(), w.numel()]) == [2, 6, 1, 3, 1, 3, 1, 3]


def test_the_order_of_weights_is_the_originals() -> None:
    can = chained(ResConv(8, 8))
    names = [path.rpartition(".")[2] for path, _ in can._walk("weights")]
    assert names == ["W", "W", "W", *["beta", "gamma"] * 3]
    assert [p.rpartition(".")[2] for p, _ in can._walk("variables")] == ["moving_mean", "moving_variance"] * 3


def test_weights_are_parameters_and_buffers() -> None:
    can = Can()
    can.kernel = can.make_weight([3, 2])
    unnamed = can.make_bias([2])
    can.variable = can.make_variable(np.zeros(2), name="v")
    assert dict(can.named_parameters()).keys() == {"kernel", "b:0"}
    assert dict(can.named_buffers()).keys() == {"variable"}
    assert can.weights[0] is can.kernel
    assert can.weights[1] is unnamed
    assert can.variable.dtype == torch.float64
    can.double()
    assert can.variables[0] is can.variable, "the lists have the tensors of .to()"
    can.variable.add_(1)
    assert can.traverse("variables")[0].tolist() == [1, 1]


def test_reassigning_an_attribute_keeps_its_weight() -> None:
    can = Can()
    can.W = first = can.make_weight([1])
    can.W = second = can.make_weight([2])
    assert [w is v for w, v in zip(can.get_weights(), (first, second), strict=True)] == [True, True]
    assert len(list(can.parameters())) == 2
    can.part = one = can.add(Dense(1, 1))
    can.part = two = can.add(Dense(1, 1))
    assert can.subcans == (one, two)
    assert len(list(can.parameters())) == 6


def test_the_initial_value_of_a_weight() -> None:
    can = Can()
    w = can.make_weight([200, 300], mean=3.0, stddev=0.5)
    assert abs(w.mean().item() - 3) < 0.01
    assert abs(w.std().item() - 0.88 * 0.5) < 0.01
    assert (w - 3).abs().max() <= 1
    assert torch.equal(
        can.make_weight([2], initializer=np.array([1.0, 2.0])), torch.tensor([1.0, 2.0]).double()
    )
    assert can.make_bias([2], mean=-1).tolist() == [-1, -1]


def test_what_saving_and_loading_print(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(tmp_path / "_t.npz")
    assert Dense(3, 2).save_weights(file, format="canton-0.1")
    assert Dense(3, 2).load_weights(file)
    assert capsys.readouterr().out == (
        f"2 weights (and variables) obtained.\nsuccessfully saved to {file}\n"
        f"successfully loaded from {file}\n2 weights assigned.\n"
    )


@pytest.mark.parametrize("what", ["text model", "BatchNorm"])
def test_what_summary_prints(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    if not manifest():
        pytest.skip("no recorded files: there is no folder shared/canton-0.1 beside the project")
    behaviours = manifest()["behaviours"]
    expected = next(
        b["stdout"] for b in behaviours if b["what"].startswith("summary()") and what in b["what"]
    )
    can = Text(bias=True) if what == "text model" else chained(Conv2D(3, 4, 3), BatchNorm(4))
    can.summary()
    assert capsys.readouterr().out == expected


def test_infer_leaves_training_on() -> None:
    try:
        set_training_state(False)
        Dense(1, 1).infer(np.zeros((1, 1)))
        assert get_training_state()
        with pytest.raises(RuntimeError):
            Dense(1, 1).infer(np.zeros((1, 2)))
        assert get_training_state()
    finally:
        set_training_state(True)


def test_infer_takes_and_returns_arrays() -> None:
    gru = GRU(2, 3)
    xs = np.random.default_rng(0).normal(size=(2, 4, 2))
    y = gru.infer(xs)
    assert isinstance(y, np.ndarray)
    assert np.array_equal(y, gru(torch.tensor(xs).float()).detach().numpy())
    assert isinstance(gru.infer(torch.tensor(xs)), Tensor)
    assert gru.unit.infer([np.zeros((1, 3)), np.zeros((1, 2))]).shape == (1, 3)
    assert Dense(1, 1).double().infer(np.zeros((1, 1))).dtype == np.float64
    assert Dense(1, 1).bfloat16().infer(np.zeros((1, 1))).dtype == np.float32


def test_subclasses_as_in_2017() -> None:
    class Twice(Can):
        def __init__(self) -> None:
            super().__init__()
            self.dense = self.add(Dense(2, 2))

        def __call__(self, i: Tensor) -> Tensor:
            return self.dense(self.dense(i))

    class Sum(Dense):
        def __call__(self, i: Tensor) -> Tensor:
            return super().__call__(i).sum(-1)

    x = torch.randn(3, 2)
    twice = Twice()
    assert torch.equal(twice(x), twice.dense(twice.dense(x)))
    assert Sum(2, 2)(x).shape == (3,)
    assert torch.equal(Lambda(torch.tanh)(x), torch.tanh(x))
    assert chained(Reshape([2, 1]), Lambda(lambda i: i + 1))(x).shape == (3, 2, 1)


def test_cans_and_torch_modules_can_be_mixed(tmp_path: Any) -> None:
    can = chained(Dense(2, 3), nn.Linear(3, 4), nn.BatchNorm1d(4))
    assert [tuple(w.shape) for w in can.get_weights()] == [(2, 3), (3,), (4, 3), (4,), (4,), (4,)]
    assert len(can.get_biases()) == 3
    assert len(can.get_only_weights()) == 3
    assert len(can.traverse("variables")) == 3
    x = torch.randn(5, 2)
    model = nn.Sequential(can, nn.Linear(4, 1)).eval()
    y = model(x)
    can.save_weights(tmp_path / "w")
    other = chained(Dense(2, 3), nn.Linear(3, 4), nn.BatchNorm1d(4)).eval()
    other.load_weights(tmp_path / "w")
    assert torch.equal(model[1](other(x)), y)
    calls = []
    can.register_forward_hook(lambda *args: calls.append(args))
    model(x)
    assert len(calls) == 1


@pytest.mark.parametrize("way", ["deepcopy", "pickle", "torch.save", "state_dict"])
def test_a_copy_has_its_own_weights(way: str) -> None:
    model = chained(GRU(2, 3), LastDimDense(3, 1))
    x = torch.randn(2, 4, 2)
    y = model(x)
    if way == "deepcopy":
        other = copy.deepcopy(model)
    elif way == "pickle":
        other = pickle.loads(pickle.dumps(model))
    elif way == "torch.save":
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        other = torch.load(file, weights_only=False)
    else:
        other = chained(GRU(2, 3), LastDimDense(3, 1))
        other.load_state_dict(model.state_dict())
    with torch.no_grad():
        for weight in model.get_weights():
            weight.zero_()
    assert torch.equal(other(x), y)
    assert not torch.equal(model(x), y)
    assert all(a is b for a, b in zip(other.get_weights(), other.parameters(), strict=True))


def test_dtype_device_and_gradients() -> None:
    model = chained(Conv2D(2, 3, 3), BatchNorm(3)).double()
    x = torch.randn(2, 4, 4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(model, x)
    rnn = GRU(2, 2).double()
    assert torch.autograd.gradcheck(rnn, torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True))
    params = dict(rnn.named_parameters())
    zeros = {name: torch.zeros_like(p) for name, p in params.items()}
    assert not torch.func.functional_call(rnn, zeros, torch.ones(1, 2, 2).double()).any()
    assert rnn.to("meta").get_weights()[0].is_meta
