"""Properties in time of every cell x map, with the reference loop and with kernels."""

from __future__ import annotations

import torch

import canton
from cases import BATCH, STEPS, Place, every_run, given, inputs, layer, parts, rows, state_of
from tolerances import assert_close

pytestmark = every_run


def test_two_chunks_equal_one_run(kernel: str, cell: str, place: Place) -> None:
    rnn, xs = layer(cell, place, kernel=kernel, layers=2), inputs(place)
    start = given(state_of(rnn, place))
    ys, end = rnn(xs, start)
    first, between = rnn(xs[:2], start)
    second, last = rnn(xs[2:], between)
    assert_close(torch.cat([first, second]), ys, "outputs")
    for a, b in zip(parts(last), parts(end), strict=True):
        assert_close(a, b, "final state")


def test_steps_equal_the_whole_run(kernel: str, cell: str, place: Place) -> None:
    rnn, xs = layer(cell, place, kernel=kernel), inputs(place)
    ys, end = rnn(xs)
    state = None
    for t, x in enumerate(xs):
        y, state = rnn.step(x, state)
        assert_close(y, ys[t], f"output {t}")
    assert state is not None
    for a, b in zip(parts(state), parts(end), strict=True):
        assert_close(a, b, "final state")


def test_later_inputs_do_not_change_earlier_outputs(kernel: str, cell: str, place: Place) -> None:
    rnn, xs = layer(cell, place, kernel=kernel), inputs(place)
    other = xs.clone()
    other[3:] += torch.randn_like(other[3:])
    ys, changed = rnn(xs)[0], rnn(other)[0]
    assert torch.equal(ys[:3], changed[:3])
    assert not torch.equal(ys[3:], changed[3:])


def test_batch_rows_are_independent(kernel: str, cell: str, place: Place) -> None:
    rnn, xs = layer(cell, place, kernel=kernel, bidirectional=True), inputs(place)
    start = state_of(rnn, place)
    other, other_start = xs.clone(), tuple(s.clone() for s in start)
    other[:, 1] = torch.randn_like(other[:, 1])
    for s in other_start:
        s[:, 1] = torch.rand_like(s[:, 1])
    ys, end = rnn(xs, given(start))
    changed, other_end = rnn(other, given(other_start))
    assert torch.equal(ys[:, ::2], changed[:, ::2])
    assert not torch.equal(ys[:, 1], changed[:, 1])
    for a, b in zip(parts(end), parts(other_end), strict=True):
        assert torch.equal(a[:, ::2], b[:, ::2])


def test_reset_restarts_one_row(kernel: str, cell: str, place: Place) -> None:
    rnn = layer(cell, place, kernel=kernel, learn_initial_state=True)
    xs = inputs(place)
    start = given(state_of(rnn, place))
    reset = torch.zeros(STEPS, BATCH, dtype=torch.bool)
    reset[2, 1] = True
    ys, end = rnn(xs, start, reset=reset)
    plain, plain_end = rnn(xs, start)
    restarted, restarted_end = rnn(xs[2:])  # from the learned state
    assert_close(ys[:, ::2], plain[:, ::2], "other rows")
    assert_close(ys[:2, 1], plain[:2, 1], "before the reset")
    assert_close(ys[2:, 1], restarted[:, 1], "after the reset")
    assert not torch.allclose(ys[2:, 1], plain[2:, 1])
    for a, b, c in zip(parts(end), parts(plain_end), parts(restarted_end), strict=True):
        assert_close(a[:, ::2], b[:, ::2], "final state of other rows")
        assert_close(a[:, 1], c[:, 1], "final state of the row")


def test_reset_separates_the_same_segments_backwards(kernel: str, cell: str, place: Place) -> None:
    rnn, xs = layer(cell, place, kernel=kernel, bidirectional=True), inputs(place)
    reset = torch.zeros(STEPS, BATCH, dtype=torch.bool)
    reset[2, 1] = True
    ys, _ = rnn(xs, reset=reset)
    assert_close(ys[:2, 1], rnn(xs[:2])[0][:, 1], "first segment")
    assert_close(ys[2:, 1], rnn(xs[2:])[0][:, 1], "second segment")


def test_lengths_equal_rows_run_alone(kernel: str, cell: str, place: Place) -> None:
    rnn, xs = layer(cell, place, kernel=kernel, layers=2, bidirectional=True), inputs(place)
    lengths = [4, 0, STEPS]
    start = state_of(rnn, place)
    xs[4, 0], xs[:, 1] = torch.nan, torch.nan  # padding is not read
    reset = torch.zeros(STEPS, BATCH, dtype=torch.bool)
    reset[4, 0] = reset[2, 1] = True  # nor reset
    ys, end = rnn(xs, given(start), lengths=lengths, reset=reset)
    for b, length in enumerate(lengths):
        own = rows(start, slice(b, b + 1))
        assert torch.equal(ys[length:, b], torch.zeros_like(ys[length:, b]))
        if length:
            alone, own = rnn(xs[:length, b : b + 1], given(own))
            assert_close(ys[:length, b], alone[:, 0], f"row {b}")
        for a, s in zip(parts(end), parts(own), strict=True):
            assert_close(a[:, b : b + 1], s, f"final state of row {b}")
    ys.sum().backward()
    for name, parameter in rnn.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), f"{name}: the padding was read"


def test_a_detached_state_has_no_history(kernel: str, cell: str, place: Place) -> None:
    rnn, xs = layer(cell, place, kernel=kernel), inputs(place)
    early = xs[:2].clone().requires_grad_()
    late = xs[2:].clone().requires_grad_()
    _, state = rnn(early)
    ys, _ = rnn(late, canton.detach(state))
    ys.square().sum().backward()
    assert early.grad is None
    assert late.grad is not None
    whole, _ = rnn(xs)
    assert_close(ys, whole[2:], "outputs")
