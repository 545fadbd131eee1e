"""The C++ convolution against torch's in float64, in every instruction set of this machine."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import canton
from canton import kernels
from canton.kernels import cpu
from canton.kernels.cpu import conv2d
from tolerances import assert_close

pytestmark = pytest.mark.skipif(not cpu.available(), reason=f"no C++ kernels: {cpu.why_not()}")


SIZES = [(1, 8, 5, 5, 5), (3, 16, 48, 13, 9), (2, 17, 33, 18, 67), (1, 9, 70, 6, 5)]
"""Images, channels in and out, height, width: one tile and many, whole and odd."""


def gradients(module: nn.Conv2d, x: Tensor, native_way: bool) -> dict[str, Tensor]:
    module.zero_grad()
    x = x.detach().requires_grad_()
    y = conv2d.convolution(module, x) if native_way else module(x)
    y.backward(torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view_as(y))
    found = {"y": y.detach(), "x": x.grad, "weight": module.weight.grad}
    return found if module.bias is None else {**found, "bias": module.bias.grad}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("padding", "mode"), [("same", "zeros"), ("same", "circular"), (0, "zeros")])
@pytest.mark.parametrize("kernel", [3, 5])
def test_convolution_equals_torch(
    instructions: str, kernel: int, padding: str | int, mode: str, size: tuple[int, ...]
) -> None:
    images, c_in, c_out, *space = size
    module = nn.Conv2d(c_in, c_out, kernel, padding=padding, padding_mode=mode, bias=c_in != 16)
    x = torch.randn(images, c_in, *space)
    turned = x.transpose(0, 3).contiguous().transpose(0, 3)
    for given in (x, x.contiguous(memory_format=torch.channels_last), turned):
        assert conv2d.unsupported_reason(module, given) is None
        found = gradients(module, given, True)
        truth = gradients(module.double(), x.double(), False)
        module.float()
        assert found.keys() == truth.keys()
        for name, value in truth.items():
            assert_close(found[name], value, name)


def test_threads_do_not_change_the_bits() -> None:
    for images in (1, 3):
        module, x = nn.Conv2d(8, 16, 5, padding="same"), torch.randn(images, 8, 19, 21)
        alone = gradients(module, x, True)
        torch.set_num_threads(2)
        together = gradients(module, x, True)
        torch.set_num_threads(1)
        assert torch.equal(alone["y"], together["y"])
        assert torch.equal(alone["x"], together["x"])
        again = gradients(module, x, True)
        assert torch.equal(alone["weight"], again["weight"])
        assert_close(together["weight"], alone["weight"], "weight")  # summed by thread


def test_gradients_of_gradients() -> None:
    module = nn.Conv2d(8, 3, 3, padding="same", padding_mode="circular")
    x = torch.randn(2, 8, 5, 4, requires_grad=True)
    seconds = []
    for run in (module, lambda x: conv2d.convolution(module, x)):
        first = torch.autograd.grad(run(x).square().sum(), (x, module.weight), create_graph=True)
        seconds.append(torch.autograd.grad(sum(g.square().sum() for g in first), (x, module.weight)))
    for name, mine, theirs in zip(("x", "weight"), seconds[1], seconds[0], strict=True):
        assert_close(mine, theirs, name)


def test_nan_and_inf_propagate(instructions: str) -> None:
    for bad in (float("nan"), float("inf")):
        module, x = nn.Conv2d(8, 3, 3, padding="same"), torch.randn(2, 8, 12, 12)
        x[0, 3, 5, 5] = bad
        y = conv2d.convolution(module, x)
        assert not y[0, :, 4:7, 4:7].isfinite().any()
        assert y[1].isfinite().all()
        assert y[0, :, 8:].isfinite().all()  # four pixels away at most: its tile


def test_torch_runs_unsupported_convolutions() -> None:
    module, x = nn.Conv2d(8, 3, 3, padding="same"), torch.randn(2, 8, 5, 5)
    assert "float32" in str(conv2d.unsupported_reason(module.double(), x.double()))
    module.float()
    assert "dilation" in str(conv2d.unsupported_reason(nn.Conv2d(8, 3, 3, padding="same", dilation=2), x))
    assert "8 channels" in str(conv2d.unsupported_reason(nn.Conv2d(3, 8, 3, padding="same"), x[:, :3]))
    assert "smaller" in str(conv2d.unsupported_reason(module, x[..., :2]))
    with torch.autocast("cpu"):
        assert "autocast" in str(conv2d.unsupported_reason(module, x))
    assert torch.equal(kernels.apply(module, x[..., :2]), module(x[..., :2]))
    seen = []
    module.register_forward_hook(lambda *_: seen.append(1))
    assert "hooks" in str(conv2d.unsupported_reason(module, x))
    kernels.apply(module, x)
    assert seen


def test_auto_uses_the_convolution(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []
    real = conv2d.convolution
    monkeypatch.setattr(conv2d, "convolution", lambda module, x: ran.append(1) or real(module, x))
    xs = torch.randn(3, 2, 8, 6, 6)
    for kernel, expected in (("auto", 1), ("cpp", 1), ("manual", 0), ("loop", 0)):
        ran.clear()
        canton.ConvGRU2d(8, 8, 3, kernel=kernel)(xs)
        assert len(ran) == expected, kernel
