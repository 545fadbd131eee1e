"""Layer normalisation of cells: each gate at each position, the two halves separately."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from canton import GRUCell, LSTMCell, MGUCell, RNNCell, maps
from canton.core.norms import GateNorm
from cases import shake_
from tolerances import assert_close

HIDDEN = 4


def normed(a: Tensor, norm: GateNorm | None, gate: int) -> Tensor:
    """Return one gate (B, HIDDEN, *space) normalised by torch's layer_norm with its gain and shift."""
    assert norm is not None
    own = slice(gate * HIDDEN, (gate + 1) * HIDDEN)
    bias = None if norm.bias is None else norm.bias[own]
    result = nn.functional.layer_norm(a.movedim(1, -1), (HIDDEN,), norm.weight[own], bias, norm.eps)
    return result.movedim(-1, 1)


def draw(space: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    x = torch.randn(3, 5, *space, dtype=torch.float64)
    return x, *(torch.randn(3, HIDDEN, *space, dtype=torch.float64) for _ in range(2))


over_maps = pytest.mark.parametrize(
    ("over", "space"), [(maps.dense, ()), (maps.conv2d(3), (4, 3))], ids=["dense", "conv2d"]
)


@over_maps
@pytest.mark.parametrize("reset", ["before", "after"])
def test_gru(over: maps.Map, space: tuple[int, ...], reset: str) -> None:
    cell = GRUCell(5, HIDDEN, reset=reset, map=over, layer_norm=True).double()
    shake_(cell)
    x, h, _ = draw(space)
    x_z, x_r, x_c = (normed(a, cell.input_norm, k) for k, a in enumerate(cell.input_map(x).chunk(3, 1)))
    h_z, h_r = (normed(a, cell.hidden_norm, k) for k, a in enumerate(cell.hidden_map(h).chunk(2, 1)))
    z, r = torch.sigmoid(x_z + h_z), torch.sigmoid(x_r + h_r)
    if reset == "before":
        c = torch.tanh(x_c + normed(cell.candidate_map(r * h), cell.candidate_norm, 0))
    else:
        c = torch.tanh(x_c + r * normed(cell.candidate_map(h), cell.candidate_norm, 0))
    assert_close(cell(x, h), (1 - z) * h + z * c, "h")


@over_maps
def test_lstm(over: maps.Map, space: tuple[int, ...]) -> None:
    cell = LSTMCell(5, HIDDEN, map=over, layer_norm=True).double()
    shake_(cell)
    x, h, c = draw(space)
    xs = [normed(a, cell.input_norm, k) for k, a in enumerate(cell.input_map(x).chunk(4, 1))]
    hs = [normed(a, cell.hidden_norm, k) for k, a in enumerate(cell.hidden_map(h).chunk(4, 1))]
    i, f, g, o = (a + b for a, b in zip(xs, hs, strict=True))
    after = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    shown = torch.sigmoid(o) * torch.tanh(normed(after, cell.memory_norm, 0))
    got = cell(x, (h, c))
    assert isinstance(got, tuple)
    assert_close(got[0], shown, "h")
    assert_close(got[1], after, "c")


@over_maps
def test_rnn_and_mgu(over: maps.Map, space: tuple[int, ...]) -> None:
    rnn, mgu = RNNCell(5, HIDDEN, map=over, layer_norm=True), MGUCell(5, HIDDEN, map=over, layer_norm=True)
    shake_(rnn.double())
    shake_(mgu.double())
    x, h, _ = draw(space)
    summed = normed(rnn.input_map(x), rnn.input_norm, 0) + normed(rnn.hidden_map(h), rnn.hidden_norm, 0)
    assert_close(rnn(x, h), torch.tanh(summed), "rnn")
    x_f, x_c = (normed(a, mgu.input_norm, k) for k, a in enumerate(mgu.input_map(x).chunk(2, 1)))
    f = torch.sigmoid(x_f + normed(mgu.hidden_map(h), mgu.hidden_norm, 0))
    c = torch.tanh(x_c + normed(mgu.candidate_map(f * h), mgu.candidate_norm, 0))
    assert_close(mgu(x, h), (1 - f) * h + f * c, "mgu")


def test_gates_are_normalised_separately() -> None:
    cell = GRUCell(5, HIDDEN, layer_norm=True).double()
    x = torch.randn(2, 5, dtype=torch.float64)
    before = cell.project(x)
    with torch.no_grad():
        cell.input_map.get_parameter("weight")[:HIDDEN] *= 1000  # gate z alone
    after = cell.project(x)
    assert torch.equal(before[:, HIDDEN:], after[:, HIDDEN:])
    # eps = 1e-5 matters less for the larger values: 1 % at most
    assert_close(after, before, "normalised z", slack=1e8)
