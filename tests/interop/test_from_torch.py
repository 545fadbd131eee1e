"""torch.nn.GRU, LSTM and RNN with all their options, and layers that other systems lack."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

import canton
from canton.interop import flax, keras
from canton.interop.torch_nn import from_torch, to_torch
from tolerances import assert_close

KINDS = {
    "gru": lambda **options: nn.GRU(3, 5, **options),
    "lstm": lambda **options: nn.LSTM(3, 5, **options),
    "lstm projected": lambda **options: nn.LSTM(3, 5, proj_size=2, **options),
    "rnn": lambda **options: nn.RNN(3, 5, **options),
    "rnn relu": lambda **options: nn.RNN(3, 5, nonlinearity="relu", **options),
}
GRID = list(itertools.product(KINDS, (1, 2), (False, True), (False, True), (False, True)))


def make(kind: str, layers: int, both: bool, bias: bool, batch_first: bool) -> nn.RNNBase:
    return KINDS[kind](num_layers=layers, bidirectional=both, bias=bias, batch_first=batch_first)


def same_bits(a: Tensor, b: Tensor) -> bool:
    bits = {torch.float64: torch.int64, torch.float32: torch.int32}[a.dtype]
    return a.dtype == b.dtype and torch.equal(a.view(bits), b.view(bits))


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize(("kind", "layers", "both", "bias", "batch_first"), GRID)
def test_outputs_states_and_gradients(
    kind: str, layers: int, both: bool, bias: bool, batch_first: bool
) -> None:
    theirs = make(kind, layers, both, bias, batch_first).double()
    ours = from_torch(theirs)
    x = torch.randn(4, 3, 3, dtype=torch.float64)
    x_theirs, x_ours = x.clone().requires_grad_(), x.clone().requires_grad_()
    expected, expected_state = theirs(x_theirs)
    found, found_state = ours(x_ours)
    assert_close(found, expected, "y")
    pairs = zip(*(s if isinstance(s, tuple) else (s,) for s in (found_state, expected_state)), strict=True)
    for one, other in pairs:
        assert_close(one, other, "state")
    expected.sin().sum().backward()
    found.sin().sum().backward()
    assert_close(x_ours.grad, x_theirs.grad, "gradient by x")
    with torch.no_grad():  # gradients convert as weights do, but for the second bias
        for p in ours.parameters():
            p.copy_(p.grad)
    converted = to_torch(ours)
    for name, p in theirs.named_parameters():
        if "bias_hh" not in name:
            assert_close(getattr(converted, name), p.grad, name)


@pytest.mark.parametrize(("kind", "layers", "both", "bias", "batch_first"), GRID)
def test_to_torch_and_back_changes_no_bit(
    kind: str, layers: int, both: bool, bias: bool, batch_first: bool
) -> None:
    ours = from_torch(make(kind, layers, both, bias, batch_first)).eval()
    with torch.no_grad():
        for p in ours.parameters():
            p.normal_()
            p.view(-1)[:2] = torch.tensor([0.0, -0.0])  # both zeros are kept
    again = from_torch(to_torch(ours))
    assert again.batch_first == batch_first
    assert again.directions == 1 + both
    assert not again.training
    before, after = ours.state_dict(), again.state_dict()
    assert list(before) == list(after)
    assert all(same_bits(value, after[name]) for name, value in before.items())


def test_the_result_is_a_public_layer() -> None:
    assert type(from_torch(nn.GRU(3, 5))) is canton.GRU
    assert type(from_torch(nn.LSTM(3, 5))) is canton.LSTM
    assert type(from_torch(nn.RNN(3, 5))) is canton.RNN
    for layer in (canton.ConvLSTM1d(3, 4, 3), canton.ConvLSTM2d(3, 4, (3, 5), bidirectional=True)):
        again = keras.from_keras(keras.to_keras(layer))
        assert type(again) is type(layer)
        assert len(again.cells) == len(layer.cells)


def test_dropout_and_dtype_are_kept() -> None:
    ours = from_torch(nn.GRU(3, 5, 2, dropout=0.25, dtype=torch.bfloat16))
    assert ours.dropout == 0.25
    assert next(ours.parameters()).dtype == torch.bfloat16
    back = to_torch(ours)
    assert back.dropout == 0.25
    assert back.weight_ih_l0.dtype == torch.bfloat16


def test_the_two_do_not_share_memory() -> None:
    theirs = nn.RNN(3, 5)
    ours = from_torch(theirs)
    with torch.no_grad():
        ours.cells[0].input_map.weight.zero_()
    assert theirs.weight_ih_l0.abs().sum() > 0


def test_no_random_numbers_are_drawn() -> None:
    ours = canton.LSTM(3, 5)
    before = torch.get_rng_state()
    from_torch(to_torch(ours))
    assert torch.equal(torch.get_rng_state(), before)


class Sub(canton.RNNCell):
    """A cell that may compute something else."""


REFUSED = {
    "reset='before'": (lambda: canton.GRU(3, 4), "reset='before'"),
    "convolutional": (lambda: canton.ConvLSTM2d(3, 4, 3), "convolutional"),
    "layer_norm": (lambda: canton.LSTM(3, 4, layer_norm=True), "layer_norm=True"),
    "peephole": (lambda: canton.LSTM(3, 4, peephole=True), "peephole=True"),
    "MGU": (lambda: canton.MGU(3, 4), "MGUCell"),
    "zoneout": (lambda: canton.RNN(3, 4, zoneout=0.1), "zoneout=0.1"),
    "recurrent_dropout": (lambda: canton.RNN(3, 4, recurrent_dropout=0.1), "recurrent_dropout=0.1"),
    "learned state": (lambda: canton.RNN(3, 4, learn_initial_state=True), "learn_initial_state=True"),
    "own class": (lambda: canton.Recurrent(Sub(3, 4)), "Sub"),
    "own map": (lambda: canton.RNN(3, 4, map=lambda i, o, bias: nn.Bilinear(i, i, o)), "Bilinear"),
    "own bias": (lambda: canton.RNN(3, 4, map=lambda i, o, bias: nn.Linear(i, o)), "hidden_map"),
    "grouped": (lambda: canton.ConvLSTM2d(4, 4, 3, groups=2), "groups=2"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_torch_does_not_have_is_refused(case: str) -> None:
    build, reason = REFUSED[case]
    with pytest.raises(ValueError, match=reason) as caught:
        to_torch(build())
    assert "\n" not in str(caught.value)


def test_another_module_is_refused() -> None:
    with pytest.raises(ValueError, match="Linear"):
        from_torch(nn.Linear(3, 4))


OTHERS = {
    "keras projection": (keras.to_keras, lambda: canton.LSTM(3, 4, proj_size=2), "proj_size"),
    "keras stack": (keras.to_keras, lambda: canton.LSTM(3, 4, 2), "num_layers"),
    "keras conv gru": (keras.to_keras, lambda: canton.ConvGRU2d(3, 4, 3), "convolutional GRU"),
    "keras conv rnn": (keras.to_keras, lambda: canton.ConvRNN2d(3, 4, 3), "convolutional RNN"),
    "keras dilated": (keras.to_keras, lambda: canton.ConvLSTM2d(3, 4, 3, dilation=2), "dilation"),
    "flax before": (flax.to_flax, lambda: canton.GRU(3, 4), "reset='before'"),
    "flax bias": (flax.to_flax, lambda: canton.GRU(3, 4, bias=False, reset="after"), "bias=False"),
    "flax rnn": (flax.to_flax, lambda: canton.RNN(3, 4), "RNNCell"),
    "flax conv gru": (flax.to_flax, lambda: canton.ConvGRU2d(3, 4, 3, reset="after"), "convolutional"),
    "flax dilated": (flax.to_flax, lambda: canton.ConvLSTM2d(3, 4, 3, dilation=2), "dilation"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_what_the_others_do_not_have_is_refused(case: str) -> None:
    convert, build, reason = OTHERS[case]
    with pytest.raises(ValueError, match=reason) as caught:
        convert(build())
    assert "\n" not in str(caught.value)
