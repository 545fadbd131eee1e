"""Python loops over a custom cell in PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..workloads import Workload
from . import shared_torch as common


class LoopGRU(nn.Module):
    """GRU that resets before the map: one product of all inputs, then a loop."""

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


class LoopConvGRU(nn.Module):
    """ConvGRU that resets before the map: in every step two convolutions of [x, h]."""

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


def loop_step(layer: LoopConvGRU) -> common.Step:
    """Return the layer's step, which starts from zeros where the state is None."""

    def step(x: Tensor, state: Tensor | None) -> Tensor:
        if state is None:
            state = x.new_zeros(x.shape[0], layer.hidden, *x.shape[2:])
        return layer.step(x, state)

    return step


def versions() -> dict[str, str]:
    return {"torch": torch.__version__}


def build(name: str, work: Workload, threads: int) -> common.Run:
    common.prepare(threads)
    if name in ("W1", "W7"):
        raise NotImplementedError("not written as a loop: see torch_nn")
    if name.startswith("W3"):
        return common.layer_run(LoopGRU(work.c_in, work.hidden), work)
    layer = LoopConvGRU(work.c_in if name.startswith("W4") else work.hidden, work.hidden, work.kernel_size)
    if name.startswith("W4"):
        return common.layer_run(layer, work)
    detector = common.Detector(layer)
    if name == "W5":
        return common.detector_run(detector, work)
    return common.stream_run(detector, loop_step(layer), work)
