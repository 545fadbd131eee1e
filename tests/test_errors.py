"""Every message names the argument, shows its value and states the rule."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch.nn.utils.rnn import pack_sequence

import canton
from canton import GRUCell, LSTMCell, MGUCell, Recurrent, RNNCell, maps

X, XS = torch.randn(2, 8), torch.randn(5, 2, 8)
GRU, CONV = canton.GRU(8, 4), canton.ConvGRU2d(8, 4, 3)
MASK = torch.zeros(5, 2, dtype=torch.bool)

CASES: dict[str, tuple[Callable[[], object], str]] = {
    "input size": (lambda: GRUCell(0, 4), "input_size is 0: it is a whole number >= 1"),
    "hidden size": (lambda: RNNCell(4, -1), "hidden_size is -1: it is a whole number >= 1"),
    "layers": (lambda: canton.GRU(4, 4, 0), "num_layers is 0: it is a whole number >= 1"),
    "reset": (lambda: GRUCell(4, 4, reset="behind"), "reset is 'behind': it is 'before'"),
    "nonlinearity": (lambda: RNNCell(4, 4, nonlinearity="elu"), "nonlinearity is 'elu': it is 'tanh' or"),
    "projection": (
        lambda: LSTMCell(4, 4, proj_size=4),
        "proj_size is 4: it lies from 0 (none) to hidden_size",
    ),
    "kernel": (lambda: canton.GRU(4, 4, kernel="fast"), "kernel is 'fast': it is one of auto, loop"),
    "dropout": (lambda: canton.GRU(4, 4, dropout=1.0), "dropout is 1.0: a probability lies in [0, 1)"),
    "recurrent dropout": (lambda: canton.GRU(4, 4, recurrent_dropout=-0.1), "recurrent_dropout is -0.1"),
    "zoneout": (lambda: canton.LSTM(4, 4, zoneout=1.5), "zoneout is 1.5: a probability lies in [0, 1)"),
    "not a number": (lambda: canton.LSTM(4, 4, zoneout=float("nan")), "zoneout is nan"),
    "no cells": (lambda: Recurrent([]), "there are 0 cells: give one for each layer and direction"),
    "torch's convolution": (
        lambda: GRUCell(4, 4, map=torch.nn.Conv2d),
        "map is torch's Conv2d, of no kernel size: take conv2d(3)",
    ),
    "no map": (lambda: GRUCell(4, 4, map=3), "map is 3: it is a callable"),
    "odd cells": (lambda: Recurrent([GRUCell(4, 4)], bidirectional=True), "there are 1 cells"),
    "cells unlike": (lambda: Recurrent([GRUCell(4, 4), GRUCell(3, 4)]), "cell 1 takes 3 channels and keeps"),
    "kernel size": (lambda: maps.conv2d((3, 0)), "kernel_size is (3, 0): give one whole number >= 1, or 2"),
    "kernel axes": (lambda: maps.conv3d((3, 3)), "kernel_size is (3, 3): give one whole number >= 1, or 3"),
    "dilation": (lambda: maps.conv1d(3, dilation=0), "dilation is 0: give one whole number >= 1"),
    "padding": (
        lambda: maps.conv2d(3, padding_mode="same"),
        "padding_mode is 'same': it is 'zeros' or 'circular'",
    ),
    "groups": (lambda: maps.conv2d(3, groups=0), "groups is 0: it is a whole number >= 1"),
    "channels of a step": (
        lambda: GRUCell(5, 4)(X),
        "x has 8 channels on axis 1, this cell takes 5: check input",
    ),
    "channels": (lambda: canton.GRU(5, 4)(XS), "xs has 8 channels on axis 2, this cell takes 5"),
    "too few axes": (lambda: GRUCell(8, 4)(X[0, 0]), "x has the shape (): it has 1 axis, then 8 channels"),
    "dense, with space": (lambda: GRU(XS[..., None].expand(5, 2, 8, 8)), "xs has the shape (5, 2, 8, 8)"),
    "conv, without": (lambda: CONV.step(X), "x has the shape (2, 8): here it needs 4 axes"),
    "steps": (lambda: GRU(XS[:0]), "xs has the shape (0, 2, 8): a sequence has one step at least"),
    "integers, three axes": (lambda: GRU(XS.long()), "xs is (5, 2, 8) torch.int64: give floats, or integers"),
    "booleans": (lambda: GRU(MASK), "xs is (5, 2) torch.bool: give floats, or integers with 2 axes"),
    "integers, conv": (lambda: CONV(MASK.long()), "x holds integers, which only a dense map can look up"),
    "state of a step": (
        lambda: GRUCell(8, 4)(X, X),
        "state has the shapes [(2, 8)], this input needs [(2, 4)]",
    ),
    "state": (
        lambda: GRU(XS, torch.zeros(2, 2, 4)),
        "state has the shapes [(2, 2, 4)], this input needs [(1, 2, 4)]",
    ),
    "state of an lstm": (
        lambda: canton.LSTM(8, 4)(XS, torch.zeros(1, 2, 4)),
        "this input needs [(1, 2, 4), (1, 2, 4)]",
    ),
    "reset's shape": (lambda: GRU(XS, reset=MASK.t()), "reset is (2, 5) torch.bool: it is (5, 2) torch.bool"),
    "reset's dtype": (
        lambda: GRU(XS, reset=MASK.int()),
        "reset is (5, 2) torch.int32: it is (5, 2) torch.bool",
    ),
    "reset's device": (
        lambda: GRU(XS, reset=MASK.to("meta")),
        "reset is on meta: it lies where xs does, on cpu",
    ),
    "lengths": (lambda: GRU(XS, lengths=[5, 6]), "lengths go from 5 to 6: they lie in 0..5"),
    "negative lengths": (lambda: GRU(XS, lengths=[-1, 5]), "lengths go from -1 to 5: they lie in 0..5"),
    "lengths' count": (lambda: GRU(XS, lengths=[5]), "lengths is (1,) torch.int64: it is (2,) whole numbers"),
    "lengths' dtype": (
        lambda: GRU(XS, lengths=torch.ones(2)),
        "lengths is (2,) torch.float32: it is (2,) whole",
    ),
    "lengths, packed": (
        lambda: GRU(pack_sequence([X]), lengths=[2]),
        "lengths is given, but a PackedSequence",
    ),
    "streaming backwards": (
        lambda: canton.GRU(8, 4, bidirectional=True).step(X),
        "a bidirectional layer cannot stream: its backward half begins at the end",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_message_says_what_and_why(case: str) -> None:
    call, message = CASES[case]
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_the_good_neighbours_of_bad_values_pass() -> None:
    canton.LSTM(4, 4, proj_size=3, dropout=0.0, zoneout=0.999)
    GRU(XS, torch.zeros(1, 2, 4), reset=MASK, lengths=[0, 5])
    GRU(MASK.byte())
    MGUCell(1, 1)(torch.zeros(1, 1))
    maps.conv2d((1, 5), dilation=(1, 2), groups=2, padding_mode="circular")
