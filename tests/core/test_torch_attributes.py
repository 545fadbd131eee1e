"""torch.nn's attributes, keywords and methods work on Canton's layers."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import canton
from canton import Recurrent, maps
from cases import CELLS, MAPS, layer

ATTRIBUTES = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional")

PAIRS: dict[str, tuple[Recurrent, nn.RNNBase]] = {
    "gru": (
        canton.GRU(3, 4, 2, False, True, 0.5, True, reset="after"),
        nn.GRU(3, 4, 2, False, True, 0.5, True),
    ),
    "lstm": (canton.LSTM(3, 4, 2, proj_size=2), nn.LSTM(3, 4, 2, proj_size=2)),
    "rnn": (canton.RNN(3, 4, nonlinearity="relu"), nn.RNN(3, 4, nonlinearity="relu")),
    "rnn tanh": (canton.RNN(3, 4), nn.RNN(3, 4)),
}

LAYERS: dict[str, Callable[[], Recurrent]] = {
    "gru": lambda: canton.GRU(3, 4, 2, bidirectional=True, learn_initial_state=True),
    "gru after": lambda: canton.GRU(3, 4, reset="after", layer_norm=True),
    "lstm": lambda: canton.LSTM(3, 4, 2, proj_size=2, peephole=True, forget_bias=2.0),
    "lstm norm": lambda: canton.LSTM(3, 4, layer_norm=True, forget_bias=0.5, learn_initial_state=True),
    "rnn": lambda: canton.RNN(3, 4, bias=False),
    "mgu": lambda: canton.MGU(3, 4, gate_input=False, reset=False),
    "mingru": lambda: canton.MinGRU(3, 4, 2, layer_norm=True),
    "conv gru": lambda: canton.ConvGRU2d(4, 4, 3, groups=2),
    "conv lstm": lambda: canton.ConvLSTM1d(4, 4, 3, groups=2, forget_bias=3.0),
    "separable": lambda: canton.LSTM(3, 4, map=maps.separable2d(3)),
}
every_layer = pytest.mark.parametrize("name", LAYERS)


@pytest.mark.parametrize("name", PAIRS)
def test_attributes_are_torchs(name: str) -> None:
    ours, theirs = PAIRS[name]
    assert {a: getattr(ours, a) for a in ATTRIBUTES} == {a: getattr(theirs, a) for a in ATTRIBUTES}
    assert (ours.mode, ours.proj_size) == (theirs.mode, theirs.proj_size)
    ours.flatten_parameters()
    assert len(ours.all_weights) == len(theirs.all_weights)
    assert {id(p) for weights in ours.all_weights for p in weights} == {id(p) for p in ours.parameters()}


def test_modes_of_cells_that_torch_does_not_have() -> None:
    assert [canton.MGU(3, 4).mode, canton.MinGRU(3, 4).mode, canton.ConvLSTM2d(3, 4, 3).mode] == [
        "MGU",
        "MinGRU",
        "LSTM",
    ]


@pytest.mark.parametrize("cell", [canton.GRUCell, canton.LSTMCell])
def test_keywords_are_torchs(cell: type[canton.Cell]) -> None:
    gru, xs, h = canton.GRU(3, 4), torch.randn(5, 2, 3), torch.randn(1, 2, 4)
    assert torch.equal(gru(input=xs, hx=h)[0], gru(xs, h)[0])
    assert torch.equal(gru.step(input=xs[0], hx=h)[0], gru.step(xs[0], h)[0])
    one = cell(3, 4)
    hx = tuple(torch.randn(2, size) for size in one.state_sizes)
    state = hx[0] if len(hx) == 1 else hx
    expected, found = one(xs[0], state), one(input=xs[0], hx=state)
    assert torch.equal(expected[0], found[0])


def spoil_(module: nn.Module) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(float("nan"))


@every_layer
def test_reset_parameters_repeats_the_constructor(name: str) -> None:
    torch.manual_seed(7)
    rnn = LAYERS[name]()
    expected, after = {k: v.clone() for k, v in rnn.state_dict().items()}, torch.rand(1)
    spoil_(rnn)
    torch.manual_seed(7)
    rnn.reset_parameters()
    assert torch.equal(torch.rand(1), after), "the generator is where the constructor left it"
    for key, value in rnn.state_dict().items():
        assert torch.equal(value, expected[key]), key


@every_layer
def test_a_layer_from_the_meta_device_is_initialised(name: str) -> None:
    torch.manual_seed(7)
    expected = LAYERS[name]().state_dict()
    with torch.device("meta"):
        rnn = LAYERS[name]()
    rnn.to_empty(device="cpu")
    spoil_(rnn)  # memory that is not initialised may hold zeros
    torch.manual_seed(7)
    rnn.reset_parameters()
    for key, value in rnn.state_dict().items():
        assert torch.equal(value, expected[key]), key


@pytest.mark.parametrize("place", [p for p in MAPS if p != "graph"])  # which keeps a buffer
@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_over_every_map_resets_all_parameters(cell: str, place: str) -> None:
    one = CELLS[cell](2, MAPS[place].map)
    spoil_(one)
    one.reset_parameters()
    assert all(p.isfinite().all() for p in one.parameters())


def test_every_map_resets_in_a_stack() -> None:
    rnn = layer("lstm-peephole", MAPS["graph"], layers=2, learn_initial_state=True)
    spoil_(rnn)
    rnn.reset_parameters()
    assert all(p.isfinite().all() for p in rnn.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_reset_in_other_dtypes(dtype: torch.dtype) -> None:
    rnn = canton.GRU(8, 16, dtype=dtype)
    spoil_(rnn)
    rnn.reset_parameters()
    hidden = rnn.cells[0].candidate_map.weight.double()
    assert rnn.cells[0].candidate_map.weight.dtype == dtype
    atol = 1e-5 if dtype == torch.float64 else 2e-2  # half types round the weights
    torch.testing.assert_close(hidden @ hidden.t(), torch.eye(16).double(), atol=atol, rtol=0)


def test_dropout_with_one_layer_warns() -> None:
    with pytest.warns(UserWarning, match="dropout"):
        canton.GRU(3, 4, dropout=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        canton.GRU(3, 4, 2, dropout=0.5)
        canton.GRU(3, 4, recurrent_dropout=0.5, bidirectional=True)


def test_a_module_with_a_layer_loads_its_own_state() -> None:
    model = nn.Sequential(nn.Linear(3, 3), canton.GRU(3, 4, learn_initial_state=True))
    state: dict[str, Tensor] = {k: v + 1 for k, v in model.state_dict().items()}
    assert str(model.load_state_dict(state)) == "<All keys matched successfully>"
    assert torch.equal(model[1].initial[0], state["1.initial.0"])
