"""Lengths and restarts in the C++ GRU and LSTM against the reference loop, in every instruction set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
from torch import Tensor

from canton import Cell, GRUCell, LSTMCell, maps
from canton.core.recurrent import Recurrent, loop
from canton.kernels import Run, cpu
from cases import given as as_given
from gradients import assert_equals_loop, results
from tolerances import assert_close

pytestmark = pytest.mark.skipif(not cpu.available(), reason=f"no C++ kernels: {cpu.why_not()}")

CELLS: dict[str, Callable[..., Cell]] = {"gru": GRUCell, "lstm": LSTMCell}
OPTIONS = ("lengths", "reset", "both")
PLACES: dict[str, tuple[maps.Map, tuple[int, ...]]] = {
    "dense": (maps.dense, ()),
    "1x1": (maps.conv2d(1), (2, 3)),
    "1d": (maps.conv1d(3), (6,)),
    "tiles-3": (maps.conv2d(3), (5, 9)),
    "tiles-5-circular": (maps.conv2d(5, padding_mode="circular"), (7, 6)),
    "even-dilated": (maps.conv2d((2, 3), dilation=(3, 2)), (5, 6)),
    "3d": (maps.conv3d((3, 2, 1)), (3, 2, 2)),
}


@pytest.fixture(autouse=True)
def unwritten_is_no_number() -> Iterator[None]:
    """Fill new memory with NaN, so that reading what a kernel skipped shows."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def options_of(names: str, steps: int, batch: int) -> dict[str, Tensor]:
    """Return lengths (one row is empty, one complete) and resets at a third of all steps."""
    options = {}
    if names != "reset":
        options["lengths"] = torch.randint(steps + 1, (batch,))
        options["lengths"][0] = steps if batch == 1 else 0
        options["lengths"][-1] = steps
    if names != "lengths":
        options["reset"] = torch.rand(steps, batch) < 0.35
        options["reset"][0, -1] = True
    return options


def layer_of(cell: str, hidden: int, made: maps.Map, layers: int = 1, **options: bool) -> Recurrent:
    """A layer whose learned initial state, if there is one, is not zero."""
    directions = 1 + options.get("bidirectional", False)
    cells = [CELLS[cell](3, hidden, map=made) for _ in range(directions)]
    cells += [CELLS[cell](directions * hidden, hidden, map=made) for _ in range((layers - 1) * directions)]
    layer = Recurrent(cells, **options)
    for initial in layer.initial:
        torch.nn.init.uniform_(initial, -0.5, 0.5)
    return layer


def state_of(layer: Recurrent, batch: int, *space: int) -> tuple[Tensor, ...]:
    return tuple(torch.rand(len(layer.cells), batch, n, *space) * 2 - 1 for n in layer.state_sizes)


@pytest.mark.parametrize("names", OPTIONS)
@pytest.mark.parametrize(("steps", "batch"), [(1, 1), (1, 5), (7, 1), (6, 17), (3, 40)])
@pytest.mark.parametrize("hidden", [1, 33])
@pytest.mark.parametrize("cell", CELLS)
def test_dense(instructions: str, cell: str, hidden: int, steps: int, batch: int, names: str) -> None:
    layer, xs = layer_of(cell, hidden, maps.dense), torch.randn(steps, batch, 3)
    options = options_of(names, steps, batch)
    assert_equals_loop(layer, xs, "cpp", **options)
    assert_equals_loop(layer, xs, "cpp", state_of(layer, batch), **options)


@pytest.mark.parametrize("names", OPTIONS)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("cell", CELLS)
def test_convolutions(instructions: str, cell: str, place: str, batch: int, names: str) -> None:
    made, space = PLACES[place]
    layer, xs = layer_of(cell, 9, made), torch.randn(4, batch, 3, *space)
    assert_equals_loop(layer, xs, "cpp", state_of(layer, batch, *space), **options_of(names, 4, batch))


@pytest.mark.parametrize("names", OPTIONS)
@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_bidirectional_stacks(cell: str, begun: bool, learned: bool, names: str) -> None:
    layer = layer_of(cell, 9, maps.dense, layers=2, bidirectional=True, learn_initial_state=learned)
    state = state_of(layer, 6) if begun else None
    assert_equals_loop(layer, torch.randn(5, 6, 3), "cpp", state, **options_of(names, 5, 6))


@pytest.mark.parametrize("cell", CELLS)
def test_rows_without_a_step_keep_their_state(cell: str) -> None:
    layer, xs = layer_of(cell, 9, maps.dense), torch.randn(4, 3, 3)
    state, lengths = state_of(layer, 3), torch.zeros(3, dtype=torch.int32)
    found = assert_equals_loop(layer, xs, "cpp", state, lengths=lengths)
    assert not found["ys"].any()
    assert all(torch.equal(found[f"state {k}"], s) for k, s in enumerate(state))


@pytest.mark.parametrize("cell", CELLS)
def test_nan_in_padding_has_no_effect(cell: str) -> None:
    """NaN behind a row's length, or in a state that a restart replaces, has no effect."""
    layer, xs = layer_of(cell, 9, maps.dense), torch.randn(4, 3, 3)
    layer.kernel, lengths, reset = "cpp", torch.tensor([4, 2, 4]), torch.zeros(4, 3, dtype=torch.bool)
    reset[2, 2] = True
    clean = results(layer, xs, lengths=lengths, reset=reset)
    spoilt = xs.clone()
    spoilt[2:, 1] = float("nan")
    for name, value in results(layer, spoilt, lengths=lengths, reset=reset).items():
        assert torch.equal(value, clean[name]), name
    spoilt[1, 2] = float("nan")
    with torch.no_grad():
        ys = layer(spoilt, lengths=lengths, reset=reset)[0]
    assert ys[1, 2].isnan().all()
    assert_close(ys[2:], clean["ys"][2:])


@pytest.mark.parametrize("names", OPTIONS)
@pytest.mark.parametrize("batch", [1, 2, 3, 17])
@pytest.mark.parametrize("place", ["dense", "1x1", "tiles-3", "tiles-5-circular", "even-dilated"])
@pytest.mark.parametrize("kind", CELLS)
def test_threads_do_not_change_the_bits(kind: str, place: str, batch: int, names: str) -> None:
    """Of a run and not of a layer: the input half is torch's own, at its own number of threads."""
    (made, space), options = PLACES[place], options_of(names, 5, batch)
    cell = CELLS[kind](3, 9, map=made)
    gates = 3 if kind == "gru" else 4
    gx = torch.randn(5, batch, gates * 9, *space, requires_grad=True)
    state, fresh = (
        tuple(torch.rand(batch, 9, *space, requires_grad=True) for _ in cell.state_sizes) for _ in range(2)
    )
    run = Run(cell.spec(), gx, state, fresh, options.get("reset"), options.get("lengths"))
    given, found = (gx, *state, *(fresh if "reset" in options else ())), []
    usual = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            ys, after = cpu.execute(run, partial(loop, cell=cell))
            loss = sum((y * torch.linspace(-1, 2, y.numel()).view_as(y)).sum() for y in (ys, *after))
            found.append([ys, *after, *torch.autograd.grad(loss, given)])
    finally:
        torch.set_num_threads(usual)
    for together in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(together, found[0], strict=True))


@pytest.mark.parametrize("names", OPTIONS)
@pytest.mark.parametrize("cell", CELLS)
def test_without_gradients(cell: str, names: str) -> None:
    for batch in (2, 17):
        layer, xs = layer_of(cell, 33, maps.dense), torch.randn(1, batch, 3)
        layer.kernel, options = "cpp", options_of(names, 1, batch)
        state = as_given(state_of(layer, batch))
        found = layer(xs, state, **options)
        with torch.no_grad():
            again = layer(xs, state, **options)
        for a, b in zip(found, again, strict=True):
            assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("names", OPTIONS)
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_of_gradients(cell: str, names: str) -> None:
    layer = layer_of(cell, 5, maps.dense, learn_initial_state=True)
    found, options = {}, options_of(names, 3, 2)
    for kernel in ("loop", "cpp"):
        layer.kernel = kernel
        xs = torch.ones(3, 2, 3).mul_(0.3).requires_grad_()
        ys, after = layer(xs, **options)
        goal = ys.square().sum() + sum(s.sum() for s in (after if cell == "lstm" else [after]))
        (d,) = torch.autograd.grad(goal, xs, create_graph=True)
        wanted = (layer.cells[0].hidden_map.weight, layer.initial[0])
        found[kernel] = torch.autograd.grad(d.square().sum(), wanted)
    for mine, truth in zip(found["cpp"], found["loop"], strict=True):
        assert_close(mine, truth)


def test_changed_mask_raises() -> None:
    layer, reset = layer_of("gru", 5, maps.dense), torch.zeros(3, 2, dtype=torch.bool)
    layer.kernel = "cpp"
    ys, _ = layer(torch.randn(3, 2, 3), reset=reset)
    reset[1] = True
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        ys.sum().backward()
