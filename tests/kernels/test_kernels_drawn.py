"""Two hundred configurations drawn at random, every kernel that can run them against the reference loop."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from torch import Tensor

import canton
from canton import kernels, maps
from canton.core.recurrent import Recurrent
from canton.kernels import cpu
from gradients import assert_equals_loop

COUNT = 15
"""Of each cell; three times as many of the one with the most kernels: 210 in all."""


class Drawn(NamedTuple):
    """One configuration; a failing one is printed whole."""

    cell: str
    c_in: int
    hidden: int
    bias: bool
    space: tuple[int, ...]
    kernel_size: tuple[int, ...]
    dilation: int
    groups: int
    circular: bool
    steps: int
    batch: int
    layers: int
    bidirectional: bool
    batch_first: bool
    training: bool
    options: frozenset[str]
    order: tuple[int, ...] | None
    integers: bool


CELLS = (
    *("rnn", "rnn-relu", "gru", "gru-after", "mgu", "mgu-no-reset", "mgu-no-input", "gru2"),
    *("lstm", "lstm-peephole", "lstm-projection", "mingru"),
)
EASY = ("state", "learned", "dropout", "lengths", "reset")
HARD = ("recurrent dropout", "zoneout")
"""Options of which the fastest kernels know nothing: half of the configurations have none of them."""


@st.composite
def configurations(draw: st.DrawFn, cell: str) -> Drawn:
    axes = draw(st.sampled_from((0, 0, 1, 2, 2, 3)))
    groups = draw(st.sampled_from((1, 1, 1, 2))) if axes else 1
    kernel_size = tuple(draw(st.integers(1, 5 if axes < 3 else 3)) for _ in range(axes))
    if axes == 2 and draw(st.booleans()):
        kernel_size = draw(st.sampled_from(((3, 3), (5, 5))))  # which run as Winograd tiles
    dilation = draw(st.sampled_from((1, 1, 2)))
    circular = axes > 0 and draw(st.booleans())
    smallest = [
        dilation * (k - 1) if circular else 1 for k in kernel_size
    ]  # torch wraps round once, not twice
    space = tuple(draw(st.integers(max(1, n), max(1, n) + 4)) for n in smallest)
    chance = st.integers(0, 4).map(lambda n: n == 0)
    return Drawn(
        cell=cell,
        c_in=groups * draw(st.integers(1, 3) if draw(st.booleans()) else st.just(8)),
        hidden=groups * draw(st.integers(1, 13) if axes else st.integers(1, 40)),
        bias=draw(st.booleans()),
        space=space,
        kernel_size=kernel_size,
        dilation=dilation,
        groups=groups,
        circular=circular,
        steps=draw(st.integers(1, 6)),
        batch=draw(st.integers(1, 4) if axes else st.integers(1, 17)),
        layers=draw(st.sampled_from((1, 1, 2))),
        bidirectional=draw(chance),
        batch_first=draw(st.booleans()),
        training=draw(st.booleans()),
        options=frozenset(
            option for option in (EASY if draw(st.booleans()) else EASY + HARD) if draw(chance)
        ),
        order=tuple(draw(st.permutations(range(3 + axes)))) if draw(st.booleans()) else None,
        integers=axes == 0 and draw(chance),
    )


def make(d: Drawn) -> Recurrent:
    """The layer of a configuration."""
    convolutions = (maps.conv1d, maps.conv2d, maps.conv3d)
    mode = "circular" if d.circular else "zeros"
    drawn_map = (
        convolutions[len(d.space) - 1](d.kernel_size, dilation=d.dilation, groups=d.groups, padding_mode=mode)
        if d.space
        else maps.dense
    )

    def cell(c_in: int) -> canton.Cell:
        first, (kind, _, variant) = (c_in, d.hidden, d.bias), d.cell.partition("-")
        if kind == "rnn":
            return canton.RNNCell(*first, nonlinearity=variant or "tanh", map=drawn_map)
        if kind == "gru":
            return canton.GRUCell(*first, reset=variant or "before", map=drawn_map)
        if kind in ("mgu", "gru2"):
            whole = kind == "mgu"
            sees, resets = whole and variant != "no-input", whole and variant != "no-reset"
            return canton.MGUCell(*first, gate_input=sees, reset=resets, map=drawn_map)
        if kind == "mingru":
            return canton.MinGRUCell(*first, map=drawn_map)
        proj = d.groups if variant == "projection" and d.hidden > d.groups else 0
        return canton.LSTMCell(*first, proj_size=proj, peephole=variant == "peephole", map=drawn_map)

    directions = 1 + d.bidirectional
    cells = [cell(d.c_in) for _ in range(directions)]
    between = directions * cells[0].state_sizes[0]
    cells += [cell(between) for _ in range((d.layers - 1) * directions)]
    layer = Recurrent(
        cells,
        bidirectional=d.bidirectional,
        batch_first=d.batch_first,
        dropout=0.3 * ("dropout" in d.options),
        recurrent_dropout=0.3 * ("recurrent dropout" in d.options),
        zoneout=0.2 * ("zoneout" in d.options),
        learn_initial_state="learned" in d.options,
    ).train(d.training)
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if parameter.ndim < 3 and not name.endswith(
                "weight"
            ):  # what starts at zero hides what goes wrong
                parameter.uniform_(-0.5, 0.5)
    return layer


def held(d: Drawn, dtype: torch.dtype, ran: Counter[str]) -> None:
    """Assert that every kernel gives the loop's numbers for `d`, or says that it does not run it."""
    torch.manual_seed(11)
    layer = make(d).to(dtype)
    shape = (d.steps, d.batch, d.c_in, *d.space)
    xs = torch.randn(shape, dtype=dtype)
    if d.integers:
        xs = torch.randint(d.c_in, shape[:2])
    elif d.order is not None:  # the same numbers in another order in memory
        back = sorted(range(len(shape)), key=d.order.__getitem__)
        xs = xs.permute(d.order).contiguous().permute(back)
    lead, given_options, state = (len(layer.cells), d.batch), {}, None
    if "lengths" in d.options:
        given_options["lengths"] = torch.randint(d.steps + 1, (d.batch,))
    if "reset" in d.options:
        given_options["reset"] = torch.rand(d.steps, d.batch) < 0.4
    if "state" in d.options:
        state = tuple(torch.rand(*lead, n, *d.space, dtype=dtype) * 2 - 1 for n in layer.state_sizes)
    if d.batch_first:
        xs = xs.transpose(0, 1)
        given_options = {k: v.t() if k == "reset" else v for k, v in given_options.items()}
    for kernel in kernels.NAMES:
        on_cpu = kernel not in ("loop", "triton", "cuda_graphs")
        if on_cpu and runs(layer, xs, kernel, state, **given_options):
            ran[kernel] += 1


def runs(
    layer: Recurrent, xs: Tensor, kernel: str, state: tuple[Tensor, ...] | None, **options: Tensor
) -> bool:
    """Whether `kernel` runs this; what it then gives is asserted to be the loop's."""
    try:
        assert_equals_loop(layer, xs, kernel, state, **options)
    except ValueError as error:
        if f"kernel={kernel!r}" in str(error):
            return False
        raise
    return True


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("cell", CELLS)
def test_random_configurations(cell: str, dtype: torch.dtype) -> None:
    ran: Counter[str] = Counter()
    count = 3 * COUNT if cell == "gru" else COUNT

    @seed(20261124)
    @settings(max_examples=count, database=None, print_blob=False)
    @given(configurations(cell))
    def draw(d: Drawn) -> None:
        held(d, dtype, ran)

    draw()
    # a test in which every kernel refuses everything could not fail
    assert ran["auto"] >= count
    assert ran["associative_scan" if cell == "mingru" else "manual"] >= count
    if cell in ("gru", "mingru", "lstm") and dtype is torch.float32 and cpu.available():
        assert ran["cpp"] >= (3 if cell == "lstm" else count // 5)  # an LSTM's peepholes are others' work
    else:
        assert ran["cpp"] == 0
