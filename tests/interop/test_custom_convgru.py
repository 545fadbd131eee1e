"""A pasted ConvGRU's weights in Canton's layer give what the pasted cell gives, to the last few bits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from canton.interop import custom_convgru
from tolerances import assert_close

C_IN, HIDDEN = 3, 5


class Apart(nn.Module):
    """A convolution for each gate, under the names that by_names knows."""

    def __init__(self, conv: type[nn.Module], *, bias: bool = True) -> None:
        super().__init__()
        for name in ("update_gate", "reset_gate", "out_gate"):
            setattr(self, name, conv(C_IN + HIDDEN, HIDDEN, 3, padding=1, bias=bias))

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        both = torch.cat([x, h], dim=1)
        update, reset = torch.sigmoid(self.update_gate(both)), torch.sigmoid(self.reset_gate(both))
        new = torch.tanh(self.out_gate(torch.cat([x, reset * h], dim=1)))
        return (1 - update) * h + update * new


class Joint(nn.Module):
    """One convolution for both gates; the order, the meaning of z and the place of h are arguments."""

    def __init__(
        self, *, order: str = "rz", keeps: bool = False, state_first: bool = False, dilation: int = 1
    ):
        super().__init__()
        self.order, self.keeps, self.state_first = order, keeps, state_first
        where = {"padding": 2 * dilation, "dilation": dilation}
        self.conv_gates = nn.Conv2d(C_IN + HIDDEN, 2 * HIDDEN, 5, **where)
        self.conv_can = nn.Conv2d(C_IN + HIDDEN, HIDDEN, 5, **where)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        def join(h: Tensor) -> Tensor:
            return torch.cat([h, x] if self.state_first else [x, h], dim=1)

        halves = dict(zip(self.order, torch.sigmoid(self.conv_gates(join(h))).chunk(2, dim=1), strict=True))
        new = torch.tanh(self.conv_can(join(halves["r"] * h)))
        z = 1 - halves["z"] if self.keeps else halves["z"]
        return (1 - z) * h + z * new


def agree(layer: nn.Module, cell: nn.Module, *space: int) -> None:
    """See that both give the same for a sequence, and the same gradient of the input."""
    torch.manual_seed(1)
    xs = torch.randn(4, 2, C_IN, *space, requires_grad=True)
    h, told = torch.zeros(2, HIDDEN, *space), []
    for x in xs:
        h = cell(x, h)
        told.append(h)
    wanted = torch.stack(told)
    (wanted_slope,) = torch.autograd.grad(wanted.square().sum(), xs)
    ys, _ = layer(xs)
    (slope,) = torch.autograd.grad(ys.square().sum(), xs)
    assert_close(ys, wanted, "outputs")
    assert_close(slope, wanted_slope, "gradient of the input")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("conv", "space"), [(nn.Conv1d, (9,)), (nn.Conv2d, (6, 7)), (nn.Conv3d, (3, 4, 5))])
def test_a_convolution_for_each_gate(conv: type[nn.Module], space: tuple[int, ...], bias: bool) -> None:
    torch.manual_seed(0)
    cell = Apart(conv, bias=bias)
    whole = {f"encoder.ConvGRUCell_00.{name}": w for name, w in cell.state_dict().items()}
    agree(custom_convgru.by_names(whole, prefix="encoder.ConvGRUCell_00."), cell, *space)
    parts = cell.reset_gate, cell.update_gate
    agree(custom_convgru.by_convolutions(parts, cell.out_gate), cell, *space)


def test_one_convolution_for_both() -> None:
    torch.manual_seed(0)
    cell = Joint()
    agree(custom_convgru.by_names(cell.state_dict()), cell, 6, 7)


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("state_first", [False, True])
@pytest.mark.parametrize("keeps", [False, True])
@pytest.mark.parametrize("order", ["rz", "zr"])
def test_whatever_the_order(order: str, keeps: bool, state_first: bool, dilation: int) -> None:
    torch.manual_seed(0)
    cell = Joint(order=order, keeps=keeps, state_first=state_first, dilation=dilation)
    layer = custom_convgru.by_convolutions(
        cell.conv_gates, cell.conv_can, order=order, keeps=keeps, state_first=state_first
    )
    agree(layer, cell, 6, 7)


def test_what_does_not_fit_is_told() -> None:
    cell = Joint()
    with pytest.raises(
        ValueError, match=r"neither reset_gate, update_gate, out_gate nor conv_gates, conv_can"
    ):
        custom_convgru.by_names(cell.state_dict(), prefix="cell.")
    with pytest.raises(ValueError, match="order is 'xy'"):
        custom_convgru.by_convolutions(cell.conv_gates, cell.conv_can, order="xy")
    with pytest.raises(ValueError, match="twice as many"):
        custom_convgru.by_convolutions(cell.conv_can, cell.conv_can)
    with pytest.raises(ValueError, match="keep the size"):
        custom_convgru.by_convolutions(cell.conv_gates, nn.Conv2d(C_IN + HIDDEN, HIDDEN, 5))
    with pytest.raises(ValueError, match="keep the size"):
        custom_convgru.by_convolutions(
            cell.conv_gates, nn.Conv2d(C_IN + HIDDEN, HIDDEN, 5, padding=2, stride=2)
        )
    narrow = nn.Conv2d(HIDDEN, 2 * HIDDEN, 5, padding=2), nn.Conv2d(HIDDEN, HIDDEN, 5, padding=2)
    with pytest.raises(ValueError, match="a kernel is"):
        custom_convgru.by_convolutions(*narrow)
