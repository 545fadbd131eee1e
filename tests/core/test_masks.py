"""Masked steps, resets to a given state and the states at all steps, against runs without these options."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence

import canton
from canton import GRU, LSTM, MGU, SLSTM, MinGRU, Recurrent, maps
from canton.kernels import cpu
from cases import given, parts
from tolerances import assert_close

STEPS, BATCH = 6, 4

CPP = pytest.param("cpp", marks=pytest.mark.skipif(not cpu.available(), reason=str(cpu.why_not())))
KERNELS = ["loop", "manual", CPP, "auto"]

LAYERS: dict[str, tuple[type[Recurrent], dict[str, Any], tuple[int, ...]]] = {
    "gru": (GRU, {}, ()),
    "lstm stack": (LSTM, {"num_layers": 2}, ()),
    "lstm both": (LSTM, {"bidirectional": True, "learn_initial_state": True}, ()),
    "gru stack, both": (GRU, {"bidirectional": True, "num_layers": 2}, ()),
    "convlstm": (LSTM, {"map": maps.conv2d(3)}, (5, 9)),
    "slstm": (SLSTM, {}, ()),
    "mgu, recompute": (MGU, {"recompute": True}, ()),
    "lstm, recompute": (LSTM, {"recompute": True, "bidirectional": True}, ()),
    "mingru": (MinGRU, {"bidirectional": True}, ()),
}
every_layer = pytest.mark.parametrize("name", LAYERS)

MASK = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 0, 1, 0, 0, 1], [0] * 6, [1] * 6], dtype=torch.bool).t()
"""Padding on the left, gaps, nothing, everything."""


def make(name: str, kernel: str) -> Recurrent:
    """Return the named float32 layer; skip what the kernel cannot run."""
    layer, options, _ = LAYERS[name]
    if kernel == "cpp" and layer in (MGU, MinGRU):
        pytest.skip("no C++ kernel for this")
    if kernel == "manual" and layer is MinGRU:
        kernel = "associative_scan"
    made = layer(3, 8, kernel=kernel, **options)
    for initial in made.initial:
        torch.nn.init.uniform_(initial, -0.5, 0.5)
    return made


def tensors(
    layer: Recurrent, space: tuple[int, ...]
) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Return an input, a first state and a reset state, all with gradients."""
    shapes = [(len(layer.cells), BATCH, size, *space) for size in layer.state_sizes]
    hx, restart = (tuple(torch.rand(s).add_(0.1).requires_grad_() for s in shapes) for _ in range(2))
    return torch.randn(STEPS, BATCH, 3, *space, requires_grad=True), hx, restart


def results(found: list[Tensor], leaves: list[Tensor]) -> list[Tensor]:
    """Return `found`, and the gradients of a loss with a weight for every number."""
    loss = sum((f * torch.linspace(-1, 2, f.numel()).view(f.shape)).sum() for f in found)
    grads = torch.autograd.grad(loss, leaves, allow_unused=True)
    zeros = (torch.zeros_like(leaf) if g is None else g for g, leaf in zip(grads, leaves, strict=True))
    return [*(f.detach() for f in found), *zeros]


def without_masked_steps(
    layer: Recurrent, xs: Tensor, hx: tuple[Tensor, ...], **options: Any
) -> list[Tensor]:
    """Return outputs, state and all states of every row alone, without its masked steps."""
    rows = []
    for row in range(BATCH):
        kept, first = MASK[:, row].nonzero().flatten(), tuple(s[:, row : row + 1] for s in hx)
        y = xs.new_zeros(STEPS, 1, layer.directions * layer.state_sizes[0], *xs.shape[3:])
        last, over_time = first, [torch.stack([s] * STEPS, 1) for s in first]
        if len(kept):
            some = {}
            if options:
                some["reset"] = options["reset"][kept, row : row + 1]
                some["reset_state"] = given(tuple(s[:, row : row + 1] for s in options["reset_state"]))
            found, state, seen = layer(xs[kept, row : row + 1], given(first), return_all=True, **some)
            y, last = y.index_copy(0, kept, found), parts(state)
            for k, states in enumerate(parts(seen)):
                for cell in range(len(layer.cells)):
                    backward = cell % layer.directions == 1
                    for t in range(STEPS):
                        read = (kept >= t if backward else kept <= t).nonzero().flatten()
                        if len(read):
                            at = (torch.tensor(cell), torch.tensor(t))
                            over_time[k] = over_time[k].index_put(
                                at, states[cell, read[0] if backward else read[-1]]
                            )
        rows.append([y, *last, *over_time])
    axes = [1] * (1 + len(hx)) + [2] * len(hx)
    return [torch.cat(found, axis) for found, axis in zip(zip(*rows, strict=True), axes, strict=True)]


@pytest.mark.parametrize("reset", [False, True], ids=["", "reset"])
@pytest.mark.parametrize("kernel", KERNELS)
@every_layer
def test_a_masked_step_is_not_there(name: str, kernel: str, reset: bool) -> None:
    layer, space = make(name, "loop"), LAYERS[name][2]
    xs, hx, restart = tensors(layer, space)
    leaves = [xs, *hx, *(restart if reset else ()), *layer.parameters()]
    given_reset = torch.rand(STEPS, BATCH) < 0.4
    reference = {"reset": given_reset, "reset_state": restart} if reset else {}
    expected = without_masked_steps(layer, xs, hx, **reference)
    layer.kernel = make(name, kernel).kernel
    spoilt = torch.where(MASK.view(STEPS, BATCH, *[1] * (xs.ndim - 2)), xs, torch.full_like(xs, torch.nan))
    options = {"reset": given_reset, "reset_state": given(restart)} if reset else {}
    all_states = kernel != "cpp" or len(hx) == 1  # of several tensors, C++ has no gradient of all states
    ys, state, *rest = layer(spoilt, given(hx), mask=MASK, return_all=all_states, **options)
    found = [ys, *parts(state), *(s for part in rest for s in parts(part))]
    expected = results(expected[: len(found)], leaves)
    for k, (mine, truth) in enumerate(zip(results(found, leaves), expected, strict=True)):
        assert_close(mine, truth, f"{kernel}: {k}")


@pytest.mark.parametrize("kernel", KERNELS)
@every_layer
def test_all_states_are_those_of_shorter_sequences(name: str, kernel: str) -> None:
    """The forward direction has read the steps up to t, the backward direction those from t on."""
    layer = make(name, kernel)
    xs, hx, _ = tensors(layer, LAYERS[name][2])
    with torch.no_grad():
        ys, last, at_all = layer(xs, given(hx), return_all=True)
        usual = layer(xs, given(hx))
    assert_close(ys, usual[0])
    for mine, truth in zip(parts(last), parts(usual[1]), strict=True):
        assert_close(mine, truth)
    for k, states in enumerate(parts(at_all)):
        assert states.shape == (len(layer.cells), STEPS, *hx[k].shape[1:])
        for cell in range(len(layer.cells)):
            assert_close(states[cell, 0 if cell % layer.directions else -1], parts(last)[k][cell])
    if layer.num_layers > 1 and layer.directions > 1:
        return  # the second layer reads both directions, which a shorter sequence changes
    with torch.no_grad():
        for t in range(STEPS):
            before, after = parts(layer(xs[: t + 1], given(hx))[1]), parts(layer(xs[t:], given(hx))[1])
            for k, states in enumerate(parts(at_all)):
                for cell in range(len(layer.cells)):
                    expected = after if cell % layer.directions else before
                    assert_close(states[cell, t], expected[k][cell], f"state {k} of cell {cell} at {t}")


def test_gradients_of_gradients_of_all_states() -> None:
    layer = LSTM(2, 3, kernel="manual").double()
    xs = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[0, 1], [1, 0], [1, 1]], dtype=torch.bool)
    assert torch.autograd.gradgradcheck(lambda x: layer(x, mask=mask, return_all=True)[2][1], xs)


@pytest.mark.parametrize("batch_first", [False, True])
def test_the_axes_of_masks_and_all_states(batch_first: bool) -> None:
    layer, plain = LSTM(3, 4, num_layers=2, batch_first=batch_first), LSTM(3, 4, num_layers=2)
    plain.load_state_dict(layer.state_dict())
    xs, lengths = torch.randn(STEPS, BATCH, 3), torch.tensor([6, 5, 4, 2])

    def turn(x: Tensor, axis: int = 0) -> Tensor:
        return x.transpose(axis, axis + 1) if batch_first else x

    exact = plain(xs, mask=MASK & (torch.arange(STEPS)[:, None] < lengths), return_all=True)
    ys, state, at_all = layer(turn(xs), mask=turn(MASK), lengths=lengths, return_all=True)
    assert_close(turn(ys), exact[0])
    for k in range(2):
        assert_close(state[k], exact[1][k])
        assert_close(turn(at_all[k], 1), exact[2][k])
    alone, whole = layer(xs[:, 1], mask=MASK[:, 1], return_all=True), plain(xs, mask=MASK, return_all=True)
    assert_close(alone[0], whole[0][:, 1])
    assert_close(alone[1][1], whole[1][1][:, 1])
    assert_close(alone[2][1], whole[2][1][:, :, 1])


def test_all_states_of_a_packed_sequence_are_padded() -> None:
    layer, rows = GRU(3, 4), [torch.randn(2, 3), torch.randn(4, 3)]
    packed, last, at_all = layer(pack_sequence(rows, enforce_sorted=False), return_all=True)
    assert packed.data.shape == (6, 4)
    assert_close(at_all[0, 1, 0], last[0, 0])
    assert_close(at_all[0, 3, 0], last[0, 0], "after its end a row keeps its state")
    assert_close(at_all[0, 3, 1], last[0, 1])


@pytest.mark.parametrize("kernel", ["loop", "manual", "auto"])
@pytest.mark.parametrize("name", ["gru", "lstm stack", "convlstm", "slstm"])
def test_steps_give_the_sequence(name: str, kernel: str) -> None:
    layer = make(name, kernel)
    xs, hx, restart = tensors(layer, LAYERS[name][2])
    reset, leaves = torch.rand(STEPS, BATCH) < 0.4, [xs, *hx, *restart, *layer.parameters()]
    ys, last = layer(xs, given(hx), mask=MASK, reset=reset, reset_state=given(restart))
    expected = results([ys, *parts(last)], leaves)
    spoilt = torch.where(MASK.view(STEPS, BATCH, *[1] * (xs.ndim - 2)), xs, torch.full_like(xs, torch.nan))
    state, outputs = given(hx), []
    for t in range(STEPS):
        y, state = layer.step(spoilt[t], state, mask=MASK[t], reset=reset[t], reset_state=given(restart))
        outputs.append(y)
    for mine, truth in zip(results([torch.stack(outputs), *parts(state)], leaves), expected, strict=True):
        assert_close(mine, truth)


def test_all_states_take_no_second_pass() -> None:
    calls = []

    class Counting(canton.GRUCell):
        def advance(self, *args: Any) -> Any:
            calls.append(1)
            return super().advance(*args)

    Recurrent(Counting(3, 4), kernel="loop")(torch.randn(STEPS, BATCH, 3), mask=MASK, return_all=True)
    assert len(calls) == STEPS
