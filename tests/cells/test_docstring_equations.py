"""The equations in the cells' docstrings, evaluated in NumPy, give the cells' outputs.

`X_z(x)` and `H_z(h)` apply the rows of gate z in the cell's weights, by NumPy's matrix product or by a
convolution written here as loops over the kernel taps.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from canton import Cell, GRUCell, LSTMCell, MGUCell, MinGRUCell, RNNCell, maps
from cases import shake_
from tolerances import assert_close

C_IN, HIDDEN, BATCH = 3, 4, 2
Array = np.ndarray

FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
    "tanh": np.tanh,
    "relu": lambda a: np.maximum(a, 0),
    "positive": lambda a: np.where(a >= 0, a + 0.5, 1 / (1 + np.exp(-a))),
}


def equations(cell: type[Cell]) -> list[list[str]]:
    """Return every block of equations of a docstring, each a list of assignments."""
    doc = inspect.getdoc(cell) or ""
    found = re.findall(r"^Equations[^\n]*::\n\n((?: {4}[^\n]+\n)+)", doc, re.M)
    return [[line.strip() for line in block.strip().splitlines()] for block in found]


def same_convolution(x: Array, w: Array, dilation: tuple[int, ...], groups: int, circular: bool) -> Array:
    """Return the cross-correlation, of the input's size; an even kernel is padded one pixel more at the
    end."""
    batch, _, *space = x.shape
    c_out, per_group, *kernel = w.shape
    y = np.zeros((batch, c_out, *space))
    for place in np.ndindex(*space):
        for tap in np.ndindex(*kernel):
            at = tuple(
                p + t * d - (d * (k - 1)) // 2
                for p, t, d, k in zip(place, tap, dilation, kernel, strict=True)
            )
            if circular:
                at = tuple(a % n for a, n in zip(at, space, strict=True))
            elif any(not 0 <= a < n for a, n in zip(at, space, strict=True)):
                continue
            for o in range(c_out):
                group = o * groups // c_out
                taps = x[(slice(None), slice(group * per_group, (group + 1) * per_group), *at)]
                y[(slice(None), o, *place)] += taps @ w[(o, slice(None), *tap)]
    return y


def affine(module: nn.Module, gates: str) -> dict[str, Callable[[Array], Array]]:
    """Return a function per gate from the rows of a module's weight, which a grouped map orders by group."""
    weight = module.get_parameter("weight").detach().numpy()
    bias = None if module.bias is None else module.get_parameter("bias").detach().numpy()
    groups = getattr(module, "groups", 1)
    rows = np.arange(len(weight)).reshape(groups, len(gates), -1)

    def of_gate(k: int) -> Callable[[Array], Array]:
        own = rows[:, k].ravel()

        def apply(x: Array) -> Array:
            if isinstance(module, nn.Linear):
                y = x @ weight[own].T
            else:
                circular = module.padding_mode == "circular"
                y = same_convolution(x, weight[own], module.dilation, groups, circular)
            space = (1,) * (x.ndim - 2)
            return y if bias is None else y + bias[own].reshape(-1, *space)

        return apply

    return {gate: of_gate(k) for k, gate in enumerate(gates)}


def bind(cell: Cell, gates: str, hidden: dict[str, str], space: int) -> dict[str, object]:
    """Return the names in the equations: X_*, H_* and the cell's other parameters."""
    names: dict[str, object] = dict(FUNCTIONS)
    names |= {f"X_{g}": f for g, f in affine(cell.input_map, gates).items()}
    for module, letters in hidden.items():
        names |= {f"H_{g}": f for g, f in affine(cell.get_submodule(module), letters).items()}
    if isinstance(cell, LSTMCell) and cell.peephole is not None:
        for letter, p in zip("ifo", cell.peephole, strict=True):
            names[f"p_{letter}"] = p.detach().numpy().reshape(-1, *(1,) * space)
    return names


def separate_bias(cell: Cell, module: str, names: dict[str, object], letter: str, space: int) -> None:
    """Move the bias of H_letter to b_letter, its name in the equations."""
    bias = cell.get_submodule(module).get_parameter("bias").detach().numpy().reshape(-1, *(1,) * space)
    with_bias = names[f"H_{letter}"]
    assert callable(with_bias)
    names[f"H_{letter}"] = lambda h: with_bias(h) - bias
    names[f"b_{letter}"] = bias


GRU_MAPS = {"hidden_map": "zr", "candidate_map": "c"}
MGU_MAPS = {"hidden_map": "f", "candidate_map": "c"}
FORMS: dict[str, tuple[type[Cell], dict[str, object], int, str, dict[str, str], str]] = {
    # cell, options, index of the block of equations, gates of the input half, gates of the hidden maps, act
    "rnn-tanh": (RNNCell, {}, 0, "h", {"hidden_map": "h"}, "tanh"),
    "rnn-relu": (RNNCell, {"nonlinearity": "relu"}, 0, "h", {"hidden_map": "h"}, "relu"),
    "gru-before": (GRUCell, {}, 0, "zrc", GRU_MAPS, ""),
    "gru-after": (GRUCell, {"reset": "after"}, 1, "zrc", GRU_MAPS, ""),
    "mgu": (MGUCell, {}, 0, "fc", MGU_MAPS, ""),
    "mgu-gru2": (MGUCell, {"gate_input": False, "reset": False}, 1, "c", MGU_MAPS, ""),
    "mingru": (MinGRUCell, {}, 0, "zc", {}, ""),
    "lstm": (LSTMCell, {}, 0, "ifgo", {"hidden_map": "ifgo"}, ""),
    "lstm-peephole": (LSTMCell, {"peephole": True}, 1, "ifgo", {"hidden_map": "ifgo"}, ""),
}
PLACES = {
    "dense": (maps.dense, ()),
    "conv1d-circular": (maps.conv1d(3, dilation=2, padding_mode="circular"), (5,)),
    "conv2d-even": (maps.conv2d((2, 3)), (3, 4)),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("form", FORMS)
def test_the_docstring_gives_what_the_cell_computes(form: str, place: str) -> None:
    make, options, block, gates, hidden, act = FORMS[form]
    over, space = PLACES[place]
    cell = make(C_IN, HIDDEN, map=over, **options).double()  # type: ignore[call-arg]
    shake_(cell)
    names = bind(cell, gates, hidden, len(space))
    if act:
        names["act"] = FUNCTIONS[act]
    if form in ("gru-after", "mgu-gru2"):
        module, letter = ("candidate_map", "c") if form == "gru-after" else ("hidden_map", "f")
        separate_bias(cell, module, names, letter, len(space))

    x = torch.randn(BATCH, C_IN, *space, dtype=torch.float64)
    state = tuple(torch.randn(BATCH, n, *space, dtype=torch.float64) for n in cell.state_sizes)
    names["x"] = x.numpy()
    names |= dict(zip("hc", (s.numpy() for s in state), strict=False))
    for line in equations(make)[block]:
        target, formula = line.split(" = ")
        names[target] = eval(formula, {"__builtins__": {}}, names)

    after = cell(x, state[0] if len(state) == 1 else state)
    after = (after,) if isinstance(after, torch.Tensor) else after
    for letter, value in zip("hc", after, strict=False):
        assert_close(value, torch.from_numpy(np.asarray(names[letter])), letter)


def test_every_block_of_equations_is_tested() -> None:
    tested = {(make, block) for make, _, block, *_ in FORMS.values()}
    written = {(make, k) for make, *_ in FORMS.values() for k in range(len(equations(make)))}
    assert tested == written
    assert {make for make, _ in written} == {RNNCell, GRUCell, MGUCell, MinGRUCell, LSTMCell}


def test_a_grouped_cell_follows_the_equations() -> None:
    cell = GRUCell(4, HIDDEN, map=maps.conv1d(3, groups=2)).double()
    shake_(cell)
    names = bind(cell, "zrc", GRU_MAPS, 1)
    x, h = (torch.randn(BATCH, 4, 5, dtype=torch.float64) for _ in range(2))
    names |= {"x": x.numpy(), "h": h.numpy()}
    for line in equations(GRUCell)[0]:
        target, formula = line.split(" = ")
        names[target] = eval(formula, {"__builtins__": {}}, names)
    assert_close(cell(x, h), torch.from_numpy(np.asarray(names["h"])), "h")


@pytest.mark.parametrize("circular", [False, True])
@pytest.mark.parametrize("kernel", [(3, 2), (4, 1)])
def test_the_reference_convolution_agrees_with_torch(kernel: tuple[int, int], circular: bool) -> None:
    over = maps.conv2d(kernel, dilation=(1, 2), groups=2, padding_mode="circular" if circular else "zeros")
    module = over(4, 6, False).double()
    x = torch.randn(2, 4, 5, 4, dtype=torch.float64)
    weight = module.get_parameter("weight").detach().numpy()
    expected = same_convolution(x.numpy(), weight, (1, 2), 2, circular)
    assert_close(module(x), torch.from_numpy(expected), "convolution")
