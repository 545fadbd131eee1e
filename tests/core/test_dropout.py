"""Dropout between layers, recurrent dropout, zoneout, and the learned initial state."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import canton
from canton import kernels
from canton.core.recurrent import loop
from cases import CELLS, MAPS, Place, inputs, layer, parts, state_of
from tolerances import assert_close

DENSE = MAPS["dense"]
both_kernels = pytest.mark.parametrize("kernel", ["loop", "auto"])


def test_dropout_applies_between_layers_only() -> None:
    one, two = canton.GRU(3, 64, dropout=0.5), canton.GRU(3, 64, 2, dropout=0.5)
    xs = torch.randn(4, 2, 3)
    assert torch.equal(one(xs)[0], one(xs)[0])  # not after the last layer
    assert not torch.equal(two(xs)[0], two(xs)[0])
    assert (two(xs)[0] != 0).all()  # dropped units are the second layer's inputs, not its outputs
    two.eval()
    assert torch.equal(two(xs)[0], two(xs)[0])
    torch.manual_seed(1)
    two.train()
    y, _ = two.step(xs[0])
    assert not torch.equal(y, two.step(xs[0])[0])


def test_dropout_equals_torchs() -> None:
    rnn = canton.GRU(3, 8, 2, dropout=0.4)
    xs = torch.randn(4, 2, 3)
    first, second = canton.Recurrent(rnn.cells[0]), canton.Recurrent(rnn.cells[1])  # type: ignore[arg-type]
    torch.manual_seed(3)
    ys, _ = rnn(xs)
    torch.manual_seed(3)
    expected, _ = second(nn.functional.dropout(first(xs)[0], 0.4))
    assert_close(ys, expected, "outputs")


@both_kernels
@pytest.mark.parametrize("cell", [c for c in CELLS if not c.startswith("mingru")])
def test_recurrent_dropout_has_one_mask_for_all_steps(cell: str, kernel: str) -> None:
    rnn = layer(cell, DENSE, recurrent_dropout=0.5, kernel=kernel)
    xs, start = inputs(DENSE, steps=6), state_of(rnn, DENSE)
    given = start[0] if len(start) == 1 else start
    torch.manual_seed(5)
    ys, end = rnn(xs, given)
    torch.manual_seed(5)
    mask = nn.functional.dropout(torch.ones_like(start[0][0]), 0.5)
    assert set(mask.unique().tolist()) == {0.0, 2.0}
    (only,) = rnn._cells()
    state = tuple(s[0] for s in start)
    for t, gx in enumerate(only.project(xs.flatten(0, 1)).unflatten(0, xs.shape[:2])):
        state = only.advance(gx, state, mask)
        assert_close(ys[t], state[0], f"output {t}")
    assert_close(parts(end)[0][0], state[0], "final state")
    rnn.eval()
    assert_close(rnn(xs, given)[0], layer_without_noise(rnn)(xs, given)[0], "in evaluation")


def layer_without_noise(rnn: canton.Recurrent) -> canton.Recurrent:
    return canton.Recurrent(rnn._cells())


@both_kernels
def test_recurrent_dropout_does_not_drop_the_carried_state(kernel: str) -> None:
    """With z = 0 the state does not change: only the input of the maps is dropped."""
    rnn = canton.GRU(2, 8, recurrent_dropout=0.5, kernel=kernel)
    with torch.no_grad():
        rnn.get_parameter("cells.0.input_map.bias")[:8] = -1e4
    start = torch.randn(1, 3, 8)
    assert torch.equal(rnn(torch.randn(5, 3, 2), start)[1], start)


@both_kernels
@pytest.mark.parametrize("place", [DENSE, MAPS["conv2d"]], ids=["dense", "conv2d"])
@pytest.mark.parametrize("cell", ["gru", "rnn", "mgu", "mingru", "lstm", "lstm-proj"])
def test_zoneout_keeps_old_values_by_its_mask(cell: str, place: Place, kernel: str) -> None:
    rnn, xs = layer(cell, place, zoneout=0.3, kernel=kernel), inputs(place)
    start = state_of(rnn, place)
    torch.manual_seed(7)
    ys, end = rnn(xs, start[0] if len(start) == 1 else start)
    torch.manual_seed(7)
    masks = [torch.bernoulli(torch.full((len(xs), *s.shape[1:]), 0.3, dtype=s.dtype)) for s in start]
    (only,) = rnn._cells()
    state = tuple(s[0] for s in start)
    for t, x in enumerate(xs):
        new = parts(only(x, state[0] if len(state) == 1 else state))
        keeps = tuple(m[t].bool() for m in masks)
        state = tuple(torch.where(k, s, n) for k, s, n in zip(keeps, state, new, strict=True))
        assert_close(ys[t], state[0], f"output {t}")  # h of an LSTM is computed before zoneout of c
    for a, b in zip(parts(end), state, strict=True):
        assert_close(a[0], b, "final state")


@both_kernels
@pytest.mark.parametrize("cell", ["gru", "lstm-proj"])
def test_zoneout_mixes_in_evaluation(cell: str, kernel: str) -> None:
    rnn, xs = layer(cell, DENSE, zoneout=0.3, kernel=kernel), inputs(DENSE)
    rnn.eval()
    start = state_of(rnn, DENSE)
    ys, _ = rnn(xs, start[0] if len(start) == 1 else start)
    (only,) = rnn._cells()
    state = tuple(s[0] for s in start)
    for t, x in enumerate(xs):
        new = parts(only(x, state[0] if len(state) == 1 else state))
        state = tuple(0.3 * s + 0.7 * n for s, n in zip(state, new, strict=True))
        assert_close(ys[t], state[0], f"output {t}")


def test_zoneout_draws_a_mask_per_step() -> None:
    rnn = layer("gru", DENSE, zoneout=0.5)
    start = state_of(rnn, DENSE, batch=64)[0]
    xs = torch.randn(1, 64, 2, dtype=torch.float64).expand(4, -1, -1)
    ys, _ = rnn(xs, start)
    old = torch.cat([start, ys[:-1]])
    keeps = (ys == old).flatten(1)
    assert 0.3 < keeps.double().mean() < 0.7
    assert len({tuple(row.tolist()) for row in keeps}) == 4


@both_kernels
@pytest.mark.parametrize("cell", CELLS)
def test_a_learned_initial_state_has_gradients(cell: str, kernel: str) -> None:
    place = MAPS["graph"]
    rnn, xs = layer(cell, place, learn_initial_state=True, layers=2, kernel=kernel), inputs(place)
    rnn(xs)[0].square().sum().backward()
    grads = [p.grad for p in rnn.initial]
    assert all(g is not None and g.any() for g in grads)
    columns = zip(*(p.split(rnn.state_sizes) for p in rnn.initial), strict=True)
    expanded = tuple(torch.stack([p.view(1, -1, 1).expand(3, -1, 6) for p in parts]) for parts in columns)
    given = expanded[0] if len(expanded) == 1 else expanded
    assert_close(rnn(xs, given)[0], rnn(xs)[0], "outputs")
    zeros = tuple(torch.zeros_like(s) for s in expanded)
    assert not torch.allclose(rnn(xs, zeros[0] if len(zeros) == 1 else zeros)[0], rnn(xs)[0])


def test_the_loop_runs_without_a_layer() -> None:
    """The reference loop is a function of a run and a cell."""
    rnn = layer("gru", DENSE)
    (cell,) = rnn._cells()
    xs = inputs(DENSE)
    gx = cell.project(xs.flatten(0, 1)).unflatten(0, xs.shape[:2])
    zero = cell.zero_state(gx[0], xs.dtype)
    ys, _ = loop(kernels.Run(cell.spec(), gx, zero, zero), cell)
    assert torch.equal(ys, rnn(xs)[0])
