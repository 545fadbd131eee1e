"""Outputs, final states and all gradients agree with torch.nn's RNN, GRU and LSTM."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import canton
from canton import Recurrent
from tolerances import assert_close
from weights_torch import gradients, load

C_IN, HIDDEN, STEPS, BATCH = 5, 7, 6, 4


class Options(NamedTuple):
    layers: int = 1
    bias: bool = True
    batch_first: bool = False
    bidirectional: bool = False


def pair(cell: str, o: Options, dtype: torch.dtype, kernel: str) -> tuple[nn.RNNBase, Recurrent]:
    """Return torch's layer and Canton's layer with the same weights."""
    torchs = (C_IN, HIDDEN, o.layers)
    theirs: nn.RNNBase
    if cell in ("tanh", "relu"):
        theirs = nn.RNN(*torchs, cell, o.bias, o.batch_first, 0.0, o.bidirectional)
        ours = canton.RNN(*torchs, cell, o.bias, o.batch_first, 0.0, o.bidirectional, kernel=kernel)
    elif cell == "gru":
        theirs = nn.GRU(*torchs, o.bias, o.batch_first, 0.0, o.bidirectional)
        ours = canton.GRU(*torchs, o.bias, o.batch_first, 0.0, o.bidirectional, reset="after", kernel=kernel)
    else:
        proj = 3 if cell == "lstm-proj" else 0
        theirs = nn.LSTM(*torchs, o.bias, o.batch_first, 0.0, o.bidirectional, proj)
        ours = canton.LSTM(*torchs, o.bias, o.batch_first, 0.0, o.bidirectional, proj, kernel=kernel)
    theirs, ours = theirs.to(dtype), ours.to(dtype)
    load(ours, theirs)
    return theirs, ours


def start(ours: Recurrent, dtype: torch.dtype, batch: tuple[int, ...]) -> list[Tensor]:
    return [torch.randn(len(ours.cells), *batch, n, dtype=dtype) for n in ours.state_sizes]


def flat(out: tuple[Tensor | PackedSequence, Tensor | tuple[Tensor, ...]]) -> list[Tensor]:
    """Return outputs and final state in one list; a PackedSequence becomes its data."""
    ys, end = out
    return [ys if isinstance(ys, Tensor) else ys.data, *((end,) if isinstance(end, Tensor) else end)]


def compare(
    theirs: nn.RNNBase, ours: Recurrent, xs: Tensor, state: list[Tensor], lengths: Tensor | None = None
) -> None:
    """Compare outputs, final states and gradients."""
    results = []
    for layer in (theirs, ours):
        x = xs.clone().requires_grad_()
        h = [s.clone().requires_grad_() for s in state]
        given: Tensor | PackedSequence = x
        if lengths is not None:
            given = pack_padded_sequence(x, lengths, layer.batch_first, enforce_sorted=False)
        out = flat(layer(given, h[0] if len(h) == 1 else tuple(h)))
        # weights that differ between positions, so that a permuted gradient fails
        sum((o * torch.linspace(0.5, 1.5, o.numel(), dtype=o.dtype).view_as(o)).sum() for o in out).backward()
        results.append((out, [x.grad, *(s.grad for s in h)]))
    (expected, expected_grads), (got, got_grads) = results
    for k, (a, b) in enumerate(zip(got, expected, strict=True)):
        assert_close(a, b, ("outputs", "h_n", "c_n")[k])
    for k, (a, b) in enumerate(zip(got_grads, expected_grads, strict=True)):
        assert_close(a, b, f"gradient of {('xs', 'h_0', 'c_0')[k]}")
    for name, grad in gradients(ours, theirs).items():
        assert_close(grad, theirs.get_parameter(name).grad, f"gradient of {name}")


CELLS = ("tanh", "relu", "gru", "lstm", "lstm-proj")
OPTIONS = (
    Options(),
    Options(bias=False),
    Options(batch_first=True),
    Options(bidirectional=True),
    Options(layers=3),
    Options(layers=2, bidirectional=True, batch_first=True),
)
everything = [
    pytest.mark.parametrize(
        ("kernel", "dtype"), [("loop", torch.float64), ("auto", torch.float32)], ids=["loop-f64", "auto-f32"]
    ),
    pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o))),
    pytest.mark.parametrize("cell", CELLS),
]
pytestmark = everything


def sequence(o: Options, dtype: torch.dtype) -> Tensor:
    lead = (BATCH, STEPS) if o.batch_first else (STEPS, BATCH)
    return torch.randn(*lead, C_IN, dtype=dtype)


def test_a_batch(cell: str, options: Options, dtype: torch.dtype, kernel: str) -> None:
    theirs, ours = pair(cell, options, dtype, kernel)
    compare(theirs, ours, sequence(options, dtype), start(ours, dtype, (BATCH,)))


def test_packed_and_lengths(cell: str, options: Options, dtype: torch.dtype, kernel: str) -> None:
    theirs, ours = pair(cell, options, dtype, kernel)
    lengths = torch.tensor([4, STEPS, 1, 4])
    xs = sequence(options, dtype)
    compare(theirs, ours, xs, start(ours, dtype, (BATCH,)), lengths)
    packed, theirs_end = theirs(pack_padded_sequence(xs, lengths, options.batch_first, enforce_sorted=False))
    expected, _ = pad_packed_sequence(packed, options.batch_first)
    ys, end = ours(xs, lengths=lengths)
    assert_close(ys, expected, "outputs")
    assert_close(flat((ys, end))[-1], flat((ys, theirs_end))[-1], "final state")


def test_unbatched(cell: str, options: Options, dtype: torch.dtype, kernel: str) -> None:
    theirs, ours = pair(cell, options, dtype, kernel)
    compare(theirs, ours, torch.randn(STEPS, C_IN, dtype=dtype), start(ours, dtype, ()))
