"""What people paste: a Python loop over a cell of their own, written fairly: nothing quadratic in it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..workloads import Workload
from . import shared_torch as common


class HoistedGRU(nn.Module):
    """Reset-before GRU: the input's product once for all steps, then a loop."""

    def __init__(self, c_in: int, hidden: int) -> None:
        super().__init__()
        self.x = nn.Linear(c_in, 3 * hidden)
        self.gates = nn.Linear(hidden, 2 * hidden, bias=False)
        self.candidate = nn.Linear(hidden, hidden, bias=False)
        self.hidden = hidden

    def forward(self, xs: Tensor) -> tuple[Tensor, Tensor]:
        h, outputs = xs.new_zeros(xs.shape[1], self.hidden), []
        for zr, c in zip(
            *(part.unbind(0) for part in self.x(xs).split((2 * self.hidden, self.hidden), 2)), strict=True
        ):
            z, r = torch.sigmoid(zr + self.gates(h)).chunk(2, 1)
            h = torch.lerp(h, torch.tanh(c + self.candidate(r * h)), z)
            outputs.append(h)
        return torch.stack(outputs), h


class UsualConvGRU(nn.Module):
    """The ConvGRU of the gists: at every step two convolutions on the concatenated input and state."""

    def __init__(self, c_in: int, hidden: int, kernel_size: int) -> None:
        super().__init__()
        self.gates = nn.Conv2d(c_in + hidden, 2 * hidden, kernel_size, padding=kernel_size // 2)
        self.candidate = nn.Conv2d(c_in + hidden, hidden, kernel_size, padding=kernel_size // 2)
        self.hidden = hidden

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        z, r = torch.sigmoid(self.gates(torch.cat([x, h], 1))).chunk(2, 1)
        c = torch.tanh(self.candidate(torch.cat([x, r * h], 1)))
        return (1 - z) * h + z * c

    def forward(self, xs: Tensor) -> tuple[Tensor, Tensor]:
        h, outputs = xs.new_zeros(xs.shape[1], self.hidden, *xs.shape[3:]), []
        for x in xs.unbind(0):
            h = self.step(x, h)
            outputs.append(h)
        return torch.stack(outputs), h


def versions() -> dict[str, str]:
    return {"torch": torch.__version__}


def build(name: str, work: Workload, threads: int) -> common.Run:
    common.prepare(threads)
    if name in ("W1", "W7"):
        raise NotImplementedError("see torch_nn")
    if name.startswith("W3"):
        return common.layer_run(HoistedGRU(work.c_in, work.hidden), work)
    layer = UsualConvGRU(work.c_in if name.startswith("W4") else work.hidden, work.hidden, work.kernel_size)
    if name.startswith("W4"):
        return common.layer_run(layer, work)
    if name == "W5":
        return common.detector_run(layer, work)

    def step(x: Tensor, state: Tensor | None) -> Tensor:
        return layer.step(x, x.new_zeros(x.shape[0], work.hidden, *x.shape[2:]) if state is None else state)

    return common.stream_run(step, work)
