"""A converted custom ConvGRU gives the outputs and gradients of the custom cell."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from canton.interop import custom_convgru
from tolerances import assert_close

C_IN, HIDDEN = 3, 5


class SeparateGates(nn.Module):
    """A convolution for each gate, with names that from_convgru knows."""

    def __init__(self, conv: type[nn.Module], *, bias: bool = True) -> None:
        super().__init__()
        for name in ("update_gate", "reset_gate", "out_gate"):
            setattr(self, name, conv(C_IN + HIDDEN, HIDDEN, 3, padding=1, bias=bias))

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        both = torch.cat([x, h], dim=1)
        update, reset = torch.sigmoid(self.update_gate(both)), torch.sigmoid(self.reset_gate(both))
        new = torch.tanh(self.out_gate(torch.cat([x, reset * h], dim=1)))
        return (1 - update) * h + update * new


class JointGates(nn.Module):
    """One convolution for both gates. The order of gates and inputs and the meaning of z are arguments."""

    def __init__(
        self,
        *,
        reset_first: bool = True,
        z_keeps_state: bool = False,
        state_first: bool = False,
        dilation: int = 1,
    ):
        super().__init__()
        self.order, self.state_first = "rz" if reset_first else "zr", state_first
        self.z_keeps_state = z_keeps_state
        options = {"padding": 2 * dilation, "dilation": dilation}
        self.conv_gates = nn.Conv2d(C_IN + HIDDEN, 2 * HIDDEN, 5, **options)
        self.conv_can = nn.Conv2d(C_IN + HIDDEN, HIDDEN, 5, **options)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        def join(h: Tensor) -> Tensor:
            return torch.cat([h, x] if self.state_first else [x, h], dim=1)

        gates = dict(zip(self.order, torch.sigmoid(self.conv_gates(join(h))).chunk(2, dim=1), strict=True))
        new = torch.tanh(self.conv_can(join(gates["r"] * h)))
        z = 1 - gates["z"] if self.z_keeps_state else gates["z"]
        return (1 - z) * h + z * new


def check_agreement(layer: nn.Module, cell: nn.Module, *space: int) -> None:
    """Check that layer and cell give the same outputs and input gradient."""
    torch.manual_seed(1)
    xs = torch.randn(4, 2, C_IN, *space, requires_grad=True)
    h, outputs = torch.zeros(2, HIDDEN, *space), []
    for x in xs:
        h = cell(x, h)
        outputs.append(h)
    expected = torch.stack(outputs)
    (expected_grad,) = torch.autograd.grad(expected.square().sum(), xs)
    ys, _ = layer(xs)
    (grad,) = torch.autograd.grad(ys.square().sum(), xs)
    assert_close(ys, expected, "outputs")
    assert_close(grad, expected_grad, "gradient of the input")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("conv", "space"), [(nn.Conv1d, (9,)), (nn.Conv2d, (6, 7)), (nn.Conv3d, (3, 4, 5))])
def test_separate_gates(conv: type[nn.Module], space: tuple[int, ...], bias: bool) -> None:
    torch.manual_seed(0)
    cell = SeparateGates(conv, bias=bias)
    state_dict = {f"encoder.ConvGRUCell_00.{name}": w for name, w in cell.state_dict().items()}
    check_agreement(custom_convgru.from_convgru(state_dict, prefix="encoder.ConvGRUCell_00."), cell, *space)
    parts = cell.reset_gate, cell.update_gate
    check_agreement(custom_convgru.from_convolutions(parts, cell.out_gate), cell, *space)


def test_joint_gates() -> None:
    torch.manual_seed(0)
    cell = JointGates()
    check_agreement(custom_convgru.from_convgru(cell.state_dict()), cell, 6, 7)


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("state_first", [False, True])
@pytest.mark.parametrize("z_keeps_state", [False, True])
@pytest.mark.parametrize("reset_first", [False, True])
def test_every_arrangement(reset_first: bool, z_keeps_state: bool, state_first: bool, dilation: int) -> None:
    torch.manual_seed(0)
    options = {"reset_first": reset_first, "z_keeps_state": z_keeps_state, "state_first": state_first}
    cell = JointGates(dilation=dilation, **options)
    layer = custom_convgru.from_convolutions(cell.conv_gates, cell.conv_can, **options)
    check_agreement(layer, cell, 6, 7)


def test_what_does_not_fit_is_refused() -> None:
    cell = JointGates()
    with pytest.raises(ValueError, match="prefix"):
        custom_convgru.from_convgru(cell.state_dict(), prefix="cell.")
    with pytest.raises(ValueError, match="gates"):
        custom_convgru.from_convolutions(cell.conv_can, cell.conv_can)
    with pytest.raises(ValueError, match="a convolution must"):
        custom_convgru.from_convolutions(cell.conv_gates, nn.Conv2d(C_IN + HIDDEN, HIDDEN, 5))
    with pytest.raises(ValueError, match="a convolution must"):
        custom_convgru.from_convolutions(
            cell.conv_gates, nn.Conv2d(C_IN + HIDDEN, HIDDEN, 5, padding=2, stride=2)
        )
    narrow = nn.Conv2d(HIDDEN, 2 * HIDDEN, 5, padding=2), nn.Conv2d(HIDDEN, HIDDEN, 5, padding=2)
    with pytest.raises(ValueError, match="a kernel must"):
        custom_convgru.from_convolutions(*narrow)
