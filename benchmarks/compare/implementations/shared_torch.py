"""Code that the implementations in PyTorch share, so that they differ in the recurrent layer only."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..workloads import OutputMismatch, Workload

Run = Callable[[], object]
Layer = Callable[[Tensor], Tensor]
Step = Callable[[Tensor, Tensor | None], Tensor]
"""From input and state, or None, to the next state."""

TOLERANCE = 1e-4
"""Largest difference of outputs, relative to the largest output."""


def prepare(threads: int) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)


def check_outputs(outputs: Tensor, expected: Tensor) -> None:
    """Raise OutputMismatch if the outputs differ by more than `TOLERANCE`."""
    if outputs.shape != expected.shape:
        raise OutputMismatch(f"expected outputs of {tuple(expected.shape)}, got {tuple(outputs.shape)}")
    error = ((outputs - expected).abs().max() / expected.abs().max()).item()
    if not error <= TOLERANCE:
        raise OutputMismatch(f"expected a relative difference <= {TOLERANCE:g}, got {error:.2g}")


def layer_run(layer: nn.Module, work: Workload) -> Run:
    """Return a function that runs a layer over a random sequence, with all gradients if `work.backward`."""
    xs = torch.randn(work.steps, work.batch, work.c_in, *work.space, requires_grad=work.backward)
    weight = torch.randn(work.steps, work.batch, work.hidden, *work.space)

    def run() -> None:
        if not work.backward:
            with torch.no_grad():
                layer(xs)
            return
        layer.zero_grad(set_to_none=True)
        xs.grad = None
        ys = layer(xs)[0]
        ys.backward(weight)

    return run


def text_head() -> nn.Module:
    """Return the head of the 2017 article: 64 units with ELU, then 256 logits."""
    return nn.Sequential(nn.Linear(256, 64), nn.ELU(), nn.Linear(64, 256))


def text_run(recurrent: Layer, modules: nn.Module, work: Workload) -> Run:
    """Return a training step of the article's text model on random bytes.

    Args:
        recurrent: from bytes (T, B) to the outputs of the recurrent layer.
        modules: the parameters of `recurrent`.
    """
    head = text_head()
    optimiser = torch.optim.Adam([*modules.parameters(), *head.parameters()], lr=1e-3)
    data = torch.randint(256, (work.steps + 1, work.batch))

    def run() -> None:
        optimiser.zero_grad(set_to_none=True)
        logits = head(recurrent(data[:-1]))
        nn.functional.cross_entropy(logits.flatten(0, 1), data[1:].flatten()).backward()
        optimiser.step()

    return run


class Stem(nn.Module):
    """Three 5x5 convolutions without padding, with leaky ReLU and two poolings, as in the 2017 article."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(3, 16, 5), nn.Conv2d(16, 16, 5), nn.Conv2d(16, 16, 5)])

    def forward(self, x: Tensor) -> Tensor:
        for k, conv in enumerate(self.convs):
            x = nn.functional.leaky_relu(conv(x), 0.2)
            x = nn.functional.max_pool2d(x, 2) if k < 2 else x
        return x


class Detector(nn.Module):
    """The article's detector: stem, recurrent layer, and a 1x1 convolution to logits.

    The stem is channels-last, which is faster with every recurrent layer.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.stem, self.layer, self.head = Stem(), layer, nn.Conv2d(16, 1, 1)
        self.stem.to(memory_format=torch.channels_last)

    def forward(self, frames: Tensor) -> Tensor:
        """Return the logits (T, B, 1, height, width) of frames (T, B, 3, height, width)."""
        images = frames.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        xs = self.stem(images).unflatten(0, frames.shape[:2])
        ys: Tensor = self.head(self.layer(xs)[0].flatten(0, 1))
        return ys.unflatten(0, frames.shape[:2])

    def step(self, frame: Tensor, state: Tensor | None, layer_step: Step) -> tuple[Tensor, Tensor]:
        """Return the logits of a frame (B, 3, height, width), and the next state."""
        frame = frame.contiguous(memory_format=torch.channels_last)
        state = layer_step(self.stem(frame), state)
        return self.head(state), state


def detector_run(detector: Detector, work: Workload) -> Run:
    """Return a training step of the detector on random frames."""
    optimiser = torch.optim.Adam(detector.parameters(), lr=1e-3)
    frames = torch.rand(work.steps, work.batch, work.c_in, *work.space)
    truth = torch.rand(work.steps, work.batch, 1, 25, 25)

    def run() -> None:
        optimiser.zero_grad(set_to_none=True)
        nn.functional.binary_cross_entropy_with_logits(detector(frames), truth).backward()
        optimiser.step()

    return run


def stream_run(detector: Detector, layer_step: Step, work: Workload) -> Run:
    """Return a function that runs the detector on one frame and carries the state."""
    frame = torch.rand(1, work.c_in, *work.space)
    state: list[Tensor | None] = [None]

    def run() -> None:
        with torch.inference_mode():
            logits, state[0] = detector.step(frame, state[0], layer_step)
            torch.sigmoid(logits)

    return run
