"""Conversion from and to the parameters of Flax linen's GRUCell, LSTMCell, OptimizedLSTMCell and
ConvLSTMCell.

The parameters are a tree, ``cell.init(...)["params"]``: a nested dict of arrays. Dense kernels are (in, out),
convolutions (*kernel, in, out); Canton's have (out, in) first. The layers made here have
``batch_first=True``, as linen.RNN. Images are (B, T, C, *space) here and (B, T, *space, C) there. An LSTM's
state is (h, c) here and (c, h) there.

- GRUCell has ``reset="after"``, and its z weights the old value: n = tanh(in(x) + r hn(h)), h' = (1 -
  z) n + z h. So iz and hz are negated, and the bias of hn is b_c.
- LSTMCell has its biases on the state's kernels (hi, hf, hg, ho).
- ConvLSTMCell has the gates in the order i, g, f, o, two biases that are added, and adds 1 to f: Canton's b_f
  is the sum + 1. With ``use_bias=False`` Canton's layer has a bias for this 1.

The conversion is exact except for the biases of ConvLSTMCell.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from canton.cells.gru import GRU, GRUCell
from canton.cells.lstm import LSTM, LSTMCell
from canton.core.cell import Cell
from canton.core.recurrent import Recurrent
from canton.interop.gate_matrices import (
    NEGATIVE_ZERO,
    GateMatrices,
    as_tensor,
    from_channels_last,
    gate_matrices,
    gru_cell,
    layer_from_cells,
    lstm_cell,
    plain_cells,
    stack_gates,
    to_channels_last,
)

Tree = Mapping[str, Any]
_TARGET = "Flax"
_HIDDEN = ("hi", "hf", "hg", "ho")


def from_flax(params: Tree) -> GRU | LSTM:
    """Return the layer with a cell's parameters. Their names determine the kind of cell.

    Args:
        params: the tree of GRUCell, LSTMCell, OptimizedLSTMCell, or of ConvLSTMCell with ``padding="SAME"``
            and no strides. Dicts that hold only "params" or "cell" may surround it.

    Raises:
        ValueError: a parameter is missing, unknown, or of a wrong shape.
    """
    tree = _unwrap(params)
    if "ih" in tree or "hh" in tree:
        cell: GRUCell | LSTMCell = _conv_lstm_cell(tree)
    elif "hn" in tree or "in" in tree:
        cell = _gru_cell(tree)
    else:
        cell = _lstm_cell(tree)
    layer: GRU | LSTM = layer_from_cells([cell], batch_first=True)
    return layer


def to_flax(layer: Recurrent) -> dict[str, dict[str, Any]]:
    """Return the parameters, NumPy arrays, of the linen cell that computes what `layer` computes.

    It is the inverse of `from_flax`. The forget bias of a ConvLSTMCell is Canton's minus 1, rounded.

    Raises:
        ValueError: Flax has no such cell (``reset="before"``, no bias, a stack, ...).
    """
    cells = plain_cells(layer, _TARGET)
    if len(cells) != 1:
        raise ValueError(f"layer must have one cell for {_TARGET}, got {len(cells)} cells")
    cell = cells[0]
    matrices = gate_matrices(cell, _TARGET)
    if matrices.bias is None:
        raise ValueError(f"{_TARGET} has no cell with bias=False: add a bias of zeros")
    if isinstance(cell, GRUCell) and cell.reset == "before":
        raise ValueError(f"{_TARGET} has no GRU with reset='before'")
    if matrices.input.ndim == 2:
        tree = _dense_tree(cell, matrices, matrices.bias)
    elif isinstance(cell, LSTMCell) and cell.projection is None:
        tree = _conv_tree(matrices, matrices.bias)
    else:
        raise ValueError(f"{_TARGET} has no convolutional {type(cell).__name__}")
    return {
        name: {leaf: t.cpu().numpy() for leaf, t in leaves.items() if t is not None}
        for name, leaves in tree.items()
    }


def _gru_cell(tree: Tree) -> GRUCell:
    _check_names(tree, {**dict.fromkeys(("ir", "iz", "in", "hn"), True), "hr": False, "hz": False})
    x = stack_gates([-_kernel(tree, "iz"), _kernel(tree, "ir"), _kernel(tree, "in")])
    h = stack_gates([-_kernel(tree, "hz"), _kernel(tree, "hr"), _kernel(tree, "hn")])
    bias = torch.cat([-_bias(tree, "iz"), _bias(tree, "ir"), _bias(tree, "in")])
    return gru_cell(GateMatrices(x, h, bias, _bias(tree, "hn")), reset="after")


def _lstm_cell(tree: Tree) -> LSTMCell:
    _check_names(tree, {**dict.fromkeys(("ii", "if", "ig", "io"), False), **dict.fromkeys(_HIDDEN, True)})
    x = stack_gates([_kernel(tree, f"i{gate}") for gate in "ifgo"])
    h = stack_gates([_kernel(tree, name) for name in _HIDDEN])
    return lstm_cell(GateMatrices(x, h, torch.cat([_bias(tree, name) for name in _HIDDEN])))


def _conv_lstm_cell(tree: Tree) -> LSTMCell:
    has_bias = "bias" in tree.get("ih", {})
    _check_names(tree, {"ih": has_bias, "hh": has_bias})
    x, h = (_swap_gates(_kernel(tree, name)) for name in ("ih", "hh"))
    bias = _swap_gates(_bias(tree, "ih") + _bias(tree, "hh")) if has_bias else x.new_zeros(x.shape[0])
    bias.chunk(4)[1].add_(1)
    return lstm_cell(GateMatrices(x, h, bias))


def _dense_tree(cell: Cell, matrices: GateMatrices, bias: Tensor) -> dict[str, dict[str, Tensor | None]]:
    names: tuple[str, ...]
    signs: tuple[int, ...]
    if isinstance(cell, GRUCell):
        names, signs, on_input = ("z", "r", "n"), (-1, 1, 1), True
    elif isinstance(cell, LSTMCell) and cell.projection is None:
        names, signs, on_input = ("i", "f", "g", "o"), (1, 1, 1, 1), False
    else:
        raise ValueError(f"{_TARGET} has no {type(cell).__name__} with these options")
    parts = (each.chunk(len(names)) for each in (matrices.input, matrices.hidden, bias))
    tree: dict[str, dict[str, Tensor | None]] = {}
    for name, sign, x, h, b in zip(names, signs, *parts, strict=True):
        tree[f"i{name}"] = {"kernel": to_channels_last(sign * x), "bias": sign * b if on_input else None}
        tree[f"h{name}"] = {"kernel": to_channels_last(sign * h), "bias": None if on_input else b}
    if isinstance(cell, GRUCell):
        tree["hn"]["bias"] = matrices.candidate_bias
    return tree


def _conv_tree(matrices: GateMatrices, bias: Tensor) -> dict[str, dict[str, Tensor | None]]:
    x, h, undilated = matrices.input, matrices.hidden, (1, (1,) * (matrices.input.ndim - 2))
    dilations = (matrices.input_dilation, matrices.hidden_dilation)
    if x.shape[2:] != h.shape[2:] or any(dilation not in undilated for dilation in dilations):
        raise ValueError(f"{_TARGET} has one kernel_size and no dilation, got {dilations}")
    bias = bias.clone()
    bias.chunk(4)[1].sub_(1)
    return {
        "ih": {"kernel": to_channels_last(_swap_gates(x)), "bias": _swap_gates(bias)},
        "hh": {"kernel": to_channels_last(_swap_gates(h)), "bias": torch.full_like(bias, NEGATIVE_ZERO)},
    }


def _swap_gates(t: Tensor) -> Tensor:
    """Convert between Flax's i, g, f, o and Canton's i, f, g, o."""
    first, second, third, fourth = t.chunk(4)
    return torch.cat([first, third, second, fourth])


def _unwrap(params: Tree) -> Tree:
    while len(params) == 1 and (only := next(iter(params))) in ("params", "cell"):
        params = params[only]
    return params


def _check_names(tree: Tree, parts: dict[str, bool]) -> None:
    """Check that the tree has exactly these parts, each with a kernel and, where True, a bias."""
    expected = {f"{name}/{leaf}" for name, bias in parts.items() for leaf in ("kernel", "bias")[: 1 + bias]}
    found = {f"{name}/{leaf}" for name, leaves in tree.items() for leaf in leaves}
    if found != expected:
        missing, unknown = sorted(expected - found), sorted(found - expected)
        raise ValueError(f"params must be one cell's tree: missing {missing}, unknown {unknown}")


def _kernel(tree: Tree, name: str) -> Tensor:
    return from_channels_last(as_tensor(tree[name]["kernel"], f"{name}/kernel"))


def _bias(tree: Tree, name: str) -> Tensor:
    return as_tensor(tree[name]["bias"], f"{name}/bias")
