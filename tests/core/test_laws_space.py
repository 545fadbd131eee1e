"""Properties in space, of values and of gradients, of every cell over every map."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import canton
from canton import maps
from cases import (
    C_IN,
    CELLS,
    CIRCULAR,
    MAPS,
    NARROW,
    Place,
    every_run,
    given,
    inputs,
    layer,
    pairs,
    parts,
    shake_,
    state_of,
)
from tolerances import assert_close

BOUNDED = [pair for pair in pairs(MAPS) if pair[0].startswith(("gru", "mgu"))]


@pytest.mark.parametrize(("cell", "name"), BOUNDED)
def test_a_gru_stays_within_one(cell: str, name: str) -> None:
    place = MAPS[name]
    rnn = layer(cell, place)
    with torch.no_grad():
        for parameter in rnn.parameters():
            parameter.mul_(20)  # large enough to saturate every gate
    (start,) = state_of(rnn, place)
    start[:, 0], start[:, 1] = 1.0, -1.0
    ys, _ = rnn(20 * inputs(place), start)
    assert ys.abs().max() <= 1


@pytest.mark.parametrize(
    ("cell", "axes"), [(cell, axes) for cell in CELLS for axes in (1, 2, 3) if axes == 2 or cell in NARROW]
)
def test_a_1x1_convolution_on_one_pixel_equals_dense(cell: str, axes: int) -> None:
    conv = (maps.conv1d, maps.conv2d, maps.conv3d)[axes - 1](1)
    pixel = Place(conv, (1,) * axes)
    narrow, wide = layer(cell, MAPS["dense"]), layer(cell, pixel)
    for ours, theirs in zip(wide.parameters(), narrow.parameters(), strict=True):
        ours.data = theirs.data.view(ours.shape)
    xs = inputs(MAPS["dense"])
    ys, end = narrow(xs)
    one = (1,) * axes
    zs, last = wide(xs.view(*xs.shape, *one))
    assert_close(zs.view(ys.shape), ys, "outputs")
    for a, b in zip(parts(last), parts(end), strict=True):
        assert_close(a.view(b.shape), b, "final state")


@pytest.mark.parametrize(("cell", "name"), pairs(CIRCULAR))
def test_circular_padding_commutes_with_shifts(cell: str, name: str) -> None:
    place = CIRCULAR[name]
    rnn, xs = layer(cell, place), inputs(place)
    start = state_of(rnn, place)
    axes = tuple(range(-len(place.space), 0))
    shift = tuple(range(1, len(axes) + 1))

    def shifted(x: Tensor) -> Tensor:
        return x.roll(shift, axes)

    ys, end = rnn(xs, given(start))
    zs, last = rnn(shifted(xs), given(tuple(shifted(s) for s in start)))
    assert_close(zs, shifted(ys), "outputs")
    for a, b in zip(parts(last), parts(end), strict=True):
        assert_close(a, shifted(b), "final state")


@every_run
def test_gradcheck(kernel: str, cell: str, place: Place) -> None:
    rnn = layer(cell, place, kernel=kernel, learn_initial_state=True)
    xs = inputs(place, steps=3, batch=2).requires_grad_()
    start = tuple(s.requires_grad_() for s in state_of(rnn, place, batch=2))
    names, weights = zip(*rnn.named_parameters(), strict=True)
    reset = torch.tensor([[False, False], [False, True], [False, False]])
    lengths = torch.tensor([2, 3])

    def run(xs: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        state, own = rest[: len(start)], dict(zip(names, rest[len(start) :], strict=True))
        ys, end = torch.func.functional_call(
            rnn, own, (xs, given(state)), {"reset": reset, "lengths": lengths}
        )
        return (ys, *parts(end))

    assert torch.autograd.gradcheck(run, (xs, *start, *weights), fast_mode=True)


@pytest.mark.parametrize(
    ("cell", "dtype"),
    [
        *((cell, torch.uint8) for cell in CELLS),
        *((cell, dtype) for cell in NARROW for dtype in (torch.int16, torch.int32, torch.int64)),
    ],
)
def test_integers_equal_one_hot_vectors(cell: str, dtype: torch.dtype) -> None:
    make = CELLS[cell]
    rnn = canton.Recurrent(make(256, maps.dense)).double()
    shake_(rnn)
    text = torch.randint(256 if dtype == torch.uint8 else 128, (5, 3)).to(dtype)
    hot = nn.functional.one_hot(text.long(), 256).double()
    (ys, end), (zs, last) = rnn(text), rnn(hot)
    assert_close(ys, zs, "outputs")
    assert_close(parts(end)[0], parts(last)[0], "final state")
    assert_close(rnn.step(text[0])[0], ys[0], "a step")
    weight = rnn.get_parameter("cells.0.input_map.weight")
    grads = [torch.autograd.grad(out.square().sum(), weight)[0] for out in (ys, zs)]
    assert_close(*grads, "weight gradient")


@pytest.mark.parametrize("name", ["conv1d-even-dilated", "conv2d-1x5", "conv3d"])
def test_output_has_the_size_of_the_input(name: str) -> None:
    place = MAPS[name]
    for module in (place.map(C_IN, 4, True), place.map(C_IN, 4, False)):
        assert module(inputs(place)[0].float()).shape[2:] == place.space


@pytest.mark.parametrize("kernel", [2, 3, 4, 5])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("padding_mode", ["zeros", "circular"])
def test_every_kernel_size_keeps_the_size(kernel: int, dilation: int, padding_mode: str) -> None:
    module = maps.conv2d((kernel, 1), dilation=dilation, padding_mode=padding_mode)(1, 1, False)
    assert module(torch.randn(1, 1, 9, 8)).shape == (1, 1, 9, 8)
