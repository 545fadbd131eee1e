"""Kernels against the reference loop: outputs, final states and every gradient, by name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

import canton
from canton import maps
from canton.core.recurrent import Recurrent
from canton.kernels import cpu
from cases import parts
from gradients import assert_equals_loop, results
from tolerances import assert_close

CELLS = {
    "rnn-relu": lambda m: canton.RNNCell(4, 6, nonlinearity="relu", map=m),
    "gru-before": lambda m: canton.GRUCell(4, 6, map=m),
    "gru-after": lambda m: canton.GRUCell(4, 6, reset="after", map=m),
    "mgu": lambda m: canton.MGUCell(4, 6, map=m),
    "gru2": lambda m: canton.MGUCell(4, 6, gate_input=False, reset=False, map=m),
    "lstm": lambda m: canton.LSTMCell(4, 6, map=m),
    "lstm-peephole": lambda m: canton.LSTMCell(4, 6, peephole=True, map=m),
    "lstm-projection": lambda m: canton.LSTMCell(4, 6, proj_size=2, map=m),
    "slstm": lambda m: canton.SLSTMCell(4, 6, map=m),
}
MAPS = {
    "dense": (maps.dense, ()),
    "conv2d-circular": (maps.conv2d((3, 2), padding_mode="circular"), (5, 4)),
    "conv1d-groups": (maps.conv1d(3, dilation=2, groups=2), (7,)),
}
CPP = pytest.param("cpp", marks=pytest.mark.skipif(not cpu.available(), reason=str(cpu.why_not())))


def draw_vectors_(layer: Recurrent) -> None:
    """Draw biases, peepholes and learned states, which are zero at first and would hide a wrong sign."""
    for parameter in layer.parameters():
        if parameter.ndim == 1:
            torch.nn.init.uniform_(parameter, -0.5, 0.5)


@pytest.mark.parametrize("cell", CELLS)
def test_manual_backward_in_chunks(cell: str) -> None:
    """A state of 32,768 numbers is differentiated two steps at a time, here in chunks of 2, 2 and 1."""
    layer = Recurrent(
        CELLS[cell](maps.dense), learn_initial_state=True, recurrent_dropout=0.3, zoneout=0.2
    ).double()
    draw_vectors_(layer)
    reset = torch.rand(5, 1 << 13) < 0.3
    lengths = torch.randint(6, (1 << 13,))
    assert_equals_loop(layer, torch.randn(5, 1 << 13, 4).double(), "manual", reset=reset, lengths=lengths)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("options", ["plain", "lengths", "reset", "noisy", "all"])
@pytest.mark.parametrize("kind", MAPS)
@pytest.mark.parametrize("cell", CELLS)
def test_manual(cell: str, kind: str, options: str, dtype: torch.dtype) -> None:
    torch.manual_seed(3)
    made, space = MAPS[kind]
    xs = torch.randn(5, 3, 4, *space, dtype=dtype)
    noise = {"recurrent_dropout": 0.3, "zoneout": 0.2} if options in ("noisy", "all") else {}
    layer = Recurrent(CELLS[cell](made), learn_initial_state=options in ("reset", "all"), **noise).to(dtype)
    draw_vectors_(layer)
    given = {}
    if options in ("lengths", "all"):
        given["lengths"] = torch.tensor([5, 0, 4])
    if options in ("reset", "all"):  # rows that are reset never, once and several times
        given["reset"] = torch.tensor(
            [[1, 0, 0], [0, 0, 0], [1, 0, 1], [1, 0, 0], [0, 1, 0]], dtype=torch.bool
        )
    assert_equals_loop(layer, xs, "manual", **given)
    found = []
    for layer.kernel in ("manual", "loop"):  # in evaluation, and without gradients, which saves nothing
        with torch.no_grad():
            ys, end = layer.eval()(xs, **given)
        found.append((ys, *parts(end)))
    for a, b in zip(*found, strict=True):
        assert_close(a, b, "without gradients")


# What is odd about an input, as (steps, batch, a change of xs, whether all lengths are zero).
Odd = tuple[int, int, Callable[[Tensor], Tensor], bool]
ODD: dict[str, Odd] = {
    "one-step": (1, 3, lambda xs: xs, False),
    "one-row": (5, 1, lambda xs: xs, False),
    "one-of-each": (1, 1, lambda xs: xs, False),
    "no-rows": (4, 0, lambda xs: xs, False),
    "no-steps-count": (4, 3, lambda xs: xs, True),
    "turned": (5, 3, lambda xs: xs.transpose(0, 2).contiguous().transpose(0, 2), False),
    "every-second": (5, 3, lambda xs: xs.repeat_interleave(2, 0).repeat_interleave(2, 1)[::2, 1::2], False),
    "expanded": (5, 3, lambda xs: xs[:1, :1].expand_as(xs), False),
    "channels-last": (5, 3, lambda xs: xs.movedim(2, -1).contiguous().movedim(-1, 2), False),
}


@pytest.mark.parametrize("kernel", ["manual", CPP, "auto"])
@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize(
    "map_and_space", [(maps.dense, ()), (maps.conv2d((3, 5)), (4, 6))], ids=["dense", "conv"]
)
def test_odd_inputs(map_and_space: tuple[maps.Map, tuple[int, ...]], odd: str, kernel: str) -> None:
    made, space = map_and_space
    steps, batch, change, empty = ODD[odd]
    layer = Recurrent(canton.GRUCell(4, 6, map=made))
    xs = change(torch.randn(steps, batch, 4, *space))
    options = {"lengths": torch.zeros(batch, dtype=torch.int64)} if empty else {}
    layer.kernel = kernel
    if kernel == "cpp" and batch == 0:
        with pytest.raises(ValueError, match="kernel='cpp'"):
            layer(xs, **options)
        return
    found = assert_equals_loop(layer, xs, kernel, **options)
    if empty:
        assert not found["ys"].any()


@pytest.mark.skipif(not cpu.available(), reason=str(cpu.why_not()))
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("kind", MAPS)
def test_auto_runs_the_fastest_kernel(kind: str, cell: str) -> None:
    made, space = MAPS[kind]
    layer, xs = Recurrent(CELLS[cell](made)), torch.randn(5, 3, 4, *space)
    cpp_can = cell in ("gru-before", "lstm", "slstm") and kind != "conv1d-groups"
    assert layer.which(xs) == ("cpp" if cpp_can else "manual")
    assert_equals_loop(layer, xs, "auto")
    assert layer.double().which(xs.double()) == "manual"


@pytest.mark.parametrize("steps", [1, 6])
@pytest.mark.parametrize("cell", ["gru-before", "lstm-peephole"])
def test_manual_gradients_of_gradients(cell: str, steps: int) -> None:
    layer = Recurrent(CELLS[cell](maps.dense), kernel="manual").double()
    xs = torch.randn(steps, 2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: layer(x)[0], xs)
    assert torch.autograd.gradgradcheck(lambda x: layer(x)[0], xs)


@pytest.mark.parametrize("kernel", ["loop", "manual", CPP, "auto"])
@pytest.mark.parametrize("kind", ["dense", "conv2d-circular"])
def test_runs_are_reproducible(kind: str, kernel: str) -> None:
    made, space = MAPS[kind]
    layer = Recurrent([canton.GRUCell(4, 33, map=made), canton.GRUCell(33, 33, map=made)], kernel=kernel)
    xs = torch.randn(9, 3, 4, *space)
    first, second = results(layer, xs), results(layer, xs)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("where", ["xs", "state", "initial.0", "cells.0.candidate_map.weight"])
def test_forward_mode_uses_the_loop(where: str) -> None:
    """For a tangent anywhere, which a kernel would drop silently."""
    layer = canton.GRU(3, 5, learn_initial_state=True)
    reset = torch.zeros(4, 2, dtype=torch.bool)
    reset[2] = True
    given = {"xs": torch.randn(4, 2, 3), "state": torch.randn(1, 2, 5), **dict(layer.named_parameters())}
    tangents = []
    with torch.no_grad(), forward_ad.dual_level():
        given[where] = forward_ad.make_dual(given[where].detach(), torch.ones_like(given[where]))
        xs, state = given.pop("xs"), given.pop("state")
        for kernel in ("auto", "loop"):
            layer.kernel = kernel
            ys, _ = torch.func.functional_call(layer, given, (xs, state), {"reset": reset})
            tangents.append(forward_ad.unpack_dual(ys).tangent)
    assert_close(*tangents)
