"""Wrong arguments raise the documented type, and the message names the argument."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn.utils.rnn import pack_sequence

import canton
from canton import GRUCell, LSTMCell, MGUCell, Recurrent, RNNCell, maps

X, XS = torch.randn(2, 8), torch.randn(5, 2, 8)
GRU, CONV = canton.GRU(8, 4), canton.ConvGRU2d(8, 4, 3)
ROWS = [torch.randn(5, 8), torch.randn(3, 8)]
NESTED = torch.nested.nested_tensor(ROWS)
JAGGED = torch.nested.nested_tensor(ROWS, layout=torch.jagged)
MASK = torch.zeros(5, 2, dtype=torch.bool)
H = torch.zeros(1, 2, 4)


def autocast(call: Callable[[], object]) -> object:
    with torch.autocast("cpu", torch.bfloat16):
        return call()


VALUE_ERRORS: dict[str, tuple[Callable[[], object], str]] = {
    "input size": (lambda: GRUCell(0, 4), "input_size"),
    "hidden size": (lambda: RNNCell(4, -1), "hidden_size"),
    "groups and hidden size": (lambda: MGUCell(4, 3, map=maps.conv1d(3, groups=2)), "hidden_size"),
    "layers": (lambda: canton.GRU(4, 4, 0), "num_layers"),
    "reset": (lambda: GRUCell(4, 4, reset="behind"), "reset"),
    "nonlinearity": (lambda: RNNCell(4, 4, nonlinearity="elu"), "nonlinearity"),
    "projection": (lambda: LSTMCell(4, 4, proj_size=4), "proj_size"),
    "kernel": (lambda: canton.GRU(4, 4, kernel="fast"), "kernel"),
    "dropout": (lambda: canton.GRU(4, 4, 2, dropout=1.0), "dropout"),
    "recurrent dropout": (lambda: canton.GRU(4, 4, recurrent_dropout=-0.1), "recurrent_dropout"),
    "zoneout": (lambda: canton.LSTM(4, 4, zoneout=1.5), "zoneout"),
    "zoneout, not a number": (lambda: canton.LSTM(4, 4, zoneout=float("nan")), "zoneout"),
    "no cells": (lambda: Recurrent([]), "cells"),
    "an odd number of cells": (lambda: Recurrent([GRUCell(4, 4)], bidirectional=True), "cells"),
    "cells that do not fit": (lambda: Recurrent([GRUCell(4, 4), GRUCell(3, 4)]), r"cells\[1\]"),
    "kernel size": (lambda: maps.conv2d((3, 0)), "kernel_size"),
    "kernel axes": (lambda: maps.conv3d((3, 3)), "kernel_size"),
    "dilation": (lambda: maps.conv1d(3, dilation=0), "dilation"),
    "padding": (lambda: maps.conv2d(3, padding_mode="same"), "padding_mode"),
    "groups": (lambda: maps.conv2d(3, groups=0), "groups"),
    "channels of a step": (lambda: GRUCell(5, 4)(X), "input .*input_size"),
    "float64": (lambda: GRU(XS.double()), "input .*float32.*float64"),
    "float64, a step": (lambda: CONV.step(torch.zeros(1, 8, 5, 5).double()), "input .*float32.*float64"),
    "float16": (lambda: GRU(XS.half()), "input .*float32.*float16"),
    "channels-last video": (lambda: CONV(torch.zeros(4, 1, 16, 17, 8)), "input .*channels-last"),
    "channels-last step": (lambda: CONV.step(torch.zeros(1, 16, 17, 8)), "input .*channels-last"),
    "channels": (lambda: canton.GRU(5, 4)(XS), "input .*input_size"),
    "too few axes": (lambda: GRUCell(8, 4)(X[0, 0]), "input "),
    "dense, with space": (lambda: GRU(XS[..., None].expand(5, 2, 8, 8)), "input .*axes"),
    "conv, without space": (lambda: CONV.step(X), "input .*axes"),
    "float64 under autocast": (lambda: autocast(lambda: GRU(XS.double())), "input .*float32.*float64"),
    "float64 state, autocast": (lambda: autocast(lambda: GRU(XS, H.double())), "hx .*float32.*float64"),
    "no steps": (lambda: GRU(XS[:0]), "input .*step"),
    "integers, three axes": (lambda: GRU(XS.long()), "input .*int64"),
    "booleans": (lambda: GRU(MASK), "input .*bool"),
    "integers, conv": (lambda: CONV(MASK.long()), "input .*int64"),
    "state of a step": (lambda: GRUCell(8, 4)(X, X), "hx"),
    "state": (lambda: GRU(XS, torch.zeros(2, 2, 4)), "hx"),
    "state of an lstm": (lambda: canton.LSTM(8, 4)(XS, torch.zeros(1, 2, 4)), "hx"),
    "state's dtype": (lambda: GRU(XS, H.bfloat16()), r"hx .*float32.*bfloat16.*\.to"),
    "state's dtype, integers": (lambda: GRU(XS, H.int()), "hx .*float32.*int32"),
    "state's dtype, a step": (lambda: GRU.step(X, H.double()), "hx .*float32.*float64"),
    "state's dtype, a cell": (lambda: GRUCell(8, 4)(X, H[0].half()), "hx .*float32.*float16"),
    "state's dtype, integer input": (lambda: GRU(XS[..., 0].long(), H.double()), "hx .*float32.*float64"),
    "state's device": (lambda: GRU(XS, H.to("meta")), "hx .*device.*cpu.*meta"),
    "state's device, a cell": (lambda: GRUCell(8, 4)(X, H[0].to("meta")), "hx .*device.*cpu.*meta"),
    "reset state's dtype": (lambda: GRU(XS, reset=MASK, reset_state=H.double()), "reset_state .*float64"),
    "reset state's shape": (lambda: GRU(XS, reset=MASK, reset_state=H[0]), "reset_state .*shape"),
    "reset state without reset": (lambda: GRU(XS, reset_state=H), "reset_state .*reset"),
    "reset state of a step": (lambda: GRU.step(X, reset_state=H), "reset_state .*reset"),
    "mask's shape": (lambda: GRU(XS, mask=MASK.t()), r"mask .*\(5, 2\)"),
    "mask's dtype": (lambda: GRU(XS, mask=MASK.float()), "mask .*bool"),
    "mask's device": (lambda: GRU(XS, mask=MASK.to("meta")), "mask .*device"),
    "mask of a step": (lambda: GRU.step(X, mask=MASK), r"mask .*\(2,\)"),
    "mask, packed": (lambda: GRU(pack_sequence([X]), mask=MASK), "mask .*PackedSequence"),
    "reset's shape": (lambda: GRU(XS, reset=MASK.t()), r"reset .*\(5, 2\)"),
    "reset's dtype": (lambda: GRU(XS, reset=MASK.int()), "reset .*bool"),
    "reset's device": (lambda: GRU(XS, reset=MASK.to("meta")), "reset .*device"),
    "lengths": (lambda: GRU(XS, lengths=[5, 6]), "lengths"),
    "negative lengths": (lambda: GRU(XS, lengths=[-1, 5]), "lengths"),
    "lengths' count": (lambda: GRU(XS, lengths=[5]), r"lengths .*\(2,\)"),
    "lengths' dtype": (lambda: GRU(XS, lengths=torch.ones(2)), "lengths .*float32"),
    "lengths, packed": (lambda: GRU(pack_sequence([X]), lengths=[2]), "lengths"),
    "streaming backwards": (lambda: canton.GRU(8, 4, bidirectional=True).step(X), "bidirectional"),
}

TYPE_ERRORS: dict[str, tuple[Callable[[], object], str]] = {
    "an unknown argument": (lambda: canton.GRU(3, 4, hidden=5), r"^GRU\(\) .*'hidden'.*hidden_size"),
    "another layer's argument": (
        lambda: canton.ConvLSTM2d(3, 4, 3, reset="after"),
        r"^ConvLSTM2d\(\) .*'reset'",
    ),
    "a list as a state": (lambda: canton.LSTM(8, 4)(XS, [[0.0], H]), "^hx .*list"),
    "a list as a mask": (lambda: GRU(XS, mask=[True]), "^mask .*list"),
    "torch's convolution": (lambda: GRUCell(4, 4, map=torch.nn.Conv2d), r"map=conv2d\(3\)"),
    "no kernel size": (lambda: canton.GRU(4, 4, map=maps.conv2d), r"map=conv2d\(3\)"),
    "no kernel size, separable": (lambda: canton.GRU(4, 4, map=maps.separable1d), r"map=separable1d\(3\)"),
    "no map": (lambda: GRUCell(4, 4, map=3), "map"),
    "hidden sizes": (lambda: canton.ConvGRU2d(3, [8, 16], 3), "^hidden_size"),
    "hidden sizes of an lstm": (lambda: canton.LSTM(3, [8, 16]), "^hidden_size"),
    "input size, text": (lambda: canton.GRU("3", 4), "^input_size"),
    "layers, text": (lambda: canton.GRU(3, 4, "2"), "^num_layers"),
    "a numpy array": (lambda: GRU(XS.numpy()), "^input .*numpy.ndarray.*from_numpy"),
    "a numpy array, a step": (lambda: GRU.step(X.numpy()), "^input .*numpy.ndarray"),
    "a numpy array, a cell": (lambda: GRUCell(8, 4)(X.numpy()), "^input .*numpy.ndarray"),
    "a list": (lambda: GRU(XS.tolist()), "^input .*list"),
    "no input": (lambda: GRU(None), "^input .*NoneType"),
    "a nested tensor": (lambda: GRU(NESTED), "^input .*lengths=.*PackedSequence"),
    "a jagged tensor": (lambda: GRU(JAGGED), "^input .*lengths=.*PackedSequence"),
    "an unknown option": (lambda: canton.ConvGRU2d(4, 4, 3, wide=True), "wide"),
    "a map for a convolution": (lambda: canton.ConvGRU2d(4, 4, 3, map=maps.dense), "map"),
}


@pytest.mark.parametrize("case", VALUE_ERRORS)
def test_value_errors(case: str) -> None:
    call, message = VALUE_ERRORS[case]
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("case", TYPE_ERRORS)
def test_type_errors(case: str) -> None:
    call, message = TYPE_ERRORS[case]
    with pytest.raises(TypeError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("tokens", [[[0], [8]], [[-1], [7]], [[3]] * 20 + [[300]]])
@pytest.mark.parametrize("hooked", [False, True])
def test_a_token_out_of_range(tokens: list[list[int]], hooked: bool) -> None:
    layer, index = canton.GRU(8, 4), torch.tensor(tokens)
    if hooked:
        layer.cells[0].input_map.register_forward_hook(lambda module, args, y: y)
    bounds = rf"0\.\.7.*{index.min()}\.\.{index.max()}"
    for call in (lambda: layer(index), lambda: [layer.step(row) for row in index]):
        with pytest.raises(IndexError, match=r"^input"):
            call()
    with pytest.raises(IndexError, match=bounds):
        layer(index)


@pytest.mark.parametrize("prefix", ["", "encoder."])
@pytest.mark.parametrize("theirs", [torch.nn.GRU(8, 4), torch.nn.LSTM(8, 4), torch.nn.LSTMCell(8, 4)])
def test_the_state_of_a_torch_layer(theirs: torch.nn.Module, prefix: str) -> None:
    cell = isinstance(theirs, torch.nn.LSTMCell)
    layer: torch.nn.Module = canton.LSTMCell(8, 4) if cell else canton.GRU(8, 4)
    model = torch.nn.ModuleDict({"encoder": layer}) if prefix else layer
    state = {f"{prefix}{key}": value for key, value in theirs.state_dict().items()}
    with pytest.raises(RuntimeError, match=r"^state_dict .*canton\.interop\.torch_nn"):
        model.load_state_dict(state)


def test_inputs_that_are_converted_on_the_way() -> None:
    """Under autocast, hooks or custom modules, the input may have another dtype than the weights."""
    with torch.autocast("cpu", torch.bfloat16):
        GRU(XS.bfloat16())
    layer = canton.GRU(8, 4, kernel="loop")
    layer.cells[0].input_map.register_forward_pre_hook(lambda module, args: (args[0].float(),))
    layer(XS.double(), torch.zeros(1, 2, 4))


def test_values_at_the_limits_are_accepted() -> None:
    canton.LSTM(4, 4, proj_size=3, dropout=0.0, zoneout=0.999)
    GRU(XS, torch.zeros(1, 2, 4), reset=MASK, lengths=[0, 5])
    GRU(MASK.byte())
    MGUCell(1, 1)(torch.zeros(1, 1))
    maps.conv2d((1, 5), dilation=(1, 2), groups=2, padding_mode="circular")
