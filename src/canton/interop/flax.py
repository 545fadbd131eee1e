"""Flax linen's GRUCell, LSTMCell (and OptimizedLSTMCell) and ConvLSTMCell as parameter trees, both ways.

A tree is a nested dict of arrays, as ``cell.init(...)["params"]`` gives it; a dict around it that holds only
"params" or "cell" is opened. Dense kernels lie (in, out), convolutions (*kernel, in, out); Canton's have
(out, in) first. The layers made here have ``batch_first=True``, as linen.RNN runs cells; images are (B, T, C,
*space) here and (B, T, *space, C) there; an LSTM's carry is (c, h) there and (h, c) here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from canton.cells.gru import GRUCell
from canton.cells.lstm import LSTMCell
from canton.core.cell import Cell
from canton.core.recurrent import Recurrent
from canton.interop.gate_matrices import (
    NOTHING,
    Halves,
    cells_of,
    gru_cell,
    lstm_cell,
    stack,
    take_apart,
    tensor,
    turn,
    turn_back,
)

SYSTEM = "Flax"
Tree = Mapping[str, Any]


def gru(params: Tree) -> Recurrent:
    """The layer of a linen.GRUCell's tree: ir, iz, in (with bias), hr, hz (without), hn (with).

    Its algebra is that of ``reset="after"`` with a z that keeps the old, n = tanh(in(x) + r hn(h)),
    h' = (1 - z) n + z h; so iz and hz change their sign, and hn's bias is b_c. Every bit is kept.

    Raises:
        ValueError: a leaf is missing or too many.
    """
    cell = _open(params)
    _check(cell, {**dict.fromkeys(("ir", "iz", "in", "hn"), True), "hr": False, "hz": False})
    x = stack([-_kernel(cell, "iz"), _kernel(cell, "ir"), _kernel(cell, "in")])
    h = stack([-_kernel(cell, "hz"), _kernel(cell, "hr"), _kernel(cell, "hn")])
    bias = torch.cat([-_bias(cell, "iz"), _bias(cell, "ir"), _bias(cell, "in")])
    return Recurrent(gru_cell(Halves(x, h, bias, _bias(cell, "hn")), reset="after"), batch_first=True)


def lstm(params: Tree) -> Recurrent:
    """The layer of a linen.LSTMCell's or OptimizedLSTMCell's tree: ii, if, ig, io, hi, hf, hg, ho.

    The biases are the state's (hi ...); gates and bits are Canton's.

    Raises:
        ValueError: a leaf is missing or too many.
    """
    cell = _open(params)
    _check(cell, {**dict.fromkeys(("ii", "if", "ig", "io"), False), **dict.fromkeys(_HIDDEN, True)})
    x = stack([_kernel(cell, f"i{gate}") for gate in "ifgo"])
    h = stack([_kernel(cell, name) for name in _HIDDEN])
    return Recurrent(
        lstm_cell(Halves(x, h, torch.cat([_bias(cell, name) for name in _HIDDEN]))), batch_first=True
    )


def conv_lstm(params: Tree) -> Recurrent:
    """The layer of a linen.ConvLSTMCell's tree (padding "SAME", no strides): ih and hh.

    Its gates lie i, g, f, o; both halves have a bias, and the cell adds 1 to f: b = b_ih + b_hh, b_f + 1.
    With ``use_bias=False`` the 1 remains, so the layer has a bias all the same.

    Raises:
        ValueError: a leaf is missing or too many.
    """
    cell = _open(params)
    biased = "bias" in cell.get("ih", {})
    _check(cell, {"ih": biased, "hh": biased})
    x, h = (_order(_kernel(cell, name)) for name in ("ih", "hh"))
    bias = torch.zeros_like(x.flatten(1)[:, 0])
    if biased:
        bias = _order(_bias(cell, "ih") + _bias(cell, "hh"))
    bias.chunk(4)[1].add_(1)
    return Recurrent(lstm_cell(Halves(x, h, bias)), batch_first=True)


def to_params(layer: Recurrent) -> dict[str, dict[str, Any]]:
    """The tree, of NumPy arrays, of the linen cell that computes what `layer` computes.

    What `gru`, `lstm` and `conv_lstm` do, backwards: weights (out, in, *kernel) are cut into gates and turned
    to (*kernel, in, out), a GRU's z changes its sign. A ConvLSTMCell's f is Canton's bias less 1, which
    rounds; all else keeps every bit.

    Raises:
        ValueError: Flax has no such cell (``reset="before"``, no bias, a stack, ...).
    """
    cells = cells_of(layer, SYSTEM)
    if len(cells) != 1:
        raise ValueError(f"the layer has {len(cells)} cells: a tree is one cell's; convert one by one")
    cell = cells[0]
    halves = take_apart(cell, SYSTEM)
    if halves.bias is None:
        raise ValueError("the cell has no bias, which Flax's cells have: give it one of zeros")
    if isinstance(cell, GRUCell) and cell.reset == "before":
        raise ValueError(
            "the GRU resets before the map, Flax's after it: no weights make one compute the other"
        )
    if halves.x.ndim == 2:
        tree = _dense_tree(cell, halves)
    elif not isinstance(cell, LSTMCell) or cell.projection is not None:
        raise ValueError(f"Flax has no convolutional {type(cell).__name__}")
    else:
        tree = _conv_tree(halves)
    return {
        name: {leaf: t.cpu().numpy() for leaf, t in leaves.items() if t is not None}
        for name, leaves in tree.items()
    }


_HIDDEN = ("hi", "hf", "hg", "ho")


def _dense_tree(cell: Cell, halves: Halves) -> dict[str, dict[str, Tensor | None]]:
    assert halves.bias is not None
    if isinstance(cell, GRUCell):
        names: tuple[str, ...] = ("z", "r", "n")
        signs: tuple[int, ...] = (-1, 1, 1)
        on_input = True
    elif isinstance(cell, LSTMCell) and cell.projection is None:
        names, signs, on_input = ("i", "f", "g", "o"), (1, 1, 1, 1), False
    else:
        raise ValueError(f"the cell is a {type(cell).__name__} that Flax's GRUCell and LSTMCell cannot hold")
    parts = (half.chunk(len(names)) for half in (halves.x, halves.h, halves.bias))
    tree: dict[str, dict[str, Tensor | None]] = {}
    for name, sign, x, h, bias in zip(names, signs, *parts, strict=True):
        tree[f"i{name}"] = {"kernel": turn_back(sign * x), "bias": sign * bias if on_input else None}
        tree[f"h{name}"] = {"kernel": turn_back(sign * h), "bias": None if on_input else bias}
    if isinstance(cell, GRUCell):
        tree["hn"]["bias"] = halves.candidate_bias
    return tree


def _conv_tree(halves: Halves) -> dict[str, dict[str, Tensor | None]]:
    if halves.x.shape[2:] != halves.h.shape[2:] or any(
        d != 1 for rate in (halves.dilation, halves.hidden_dilation) for d in _numbers(rate)
    ):
        raise ValueError("the cell's kernels differ or are dilated, which Flax's ConvLSTMCell does not have")
    assert halves.bias is not None
    bias = halves.bias.clone()
    bias.chunk(4)[1].sub_(1)
    return {
        "ih": {"kernel": turn_back(_order(halves.x)), "bias": _order(bias)},
        "hh": {"kernel": turn_back(_order(halves.h)), "bias": torch.full_like(bias, NOTHING)},
    }


def _numbers(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return (value,) if isinstance(value, int) else value


def _order(t: Tensor) -> Tensor:
    """Between Flax's i, g, f, o and Canton's i, f, g, o: the same swap both ways."""
    first, second, third, fourth = t.chunk(4)
    return torch.cat([first, third, second, fourth])


def _open(params: Tree) -> Tree:
    while len(params) == 1 and (only := next(iter(params))) in ("params", "cell"):
        params = params[only]
    return params


def _check(cell: Tree, wanted: dict[str, bool]) -> None:
    """That the tree has exactly the wanted parts, each with a kernel and, where True, a bias."""
    expected = {f"{name}/{leaf}" for name, bias in wanted.items() for leaf in ("kernel", "bias")[: 1 + bias]}
    found = {f"{name}/{leaf}" for name, leaves in cell.items() for leaf in leaves}
    if found != expected:
        missing, strange = sorted(expected - found), sorted(found - expected)
        raise ValueError(f"params is another cell's tree: missing {missing}, not expected {strange}")


def _kernel(cell: Tree, name: str) -> Tensor:
    return turn(tensor(cell[name]["kernel"], f"{name}/kernel"))


def _bias(cell: Tree, name: str) -> Tensor:
    return tensor(cell[name]["bias"], f"{name}/bias")
