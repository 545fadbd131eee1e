"""What the contestants on torch share, so that they differ in the recurrent layer alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..workloads import Workload

Run = Callable[[], object]
Layer = Callable[[Tensor], Tensor]


def prepare(threads: int) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)


def layer_run(layer: nn.Module, work: Workload) -> Run:
    """One pass of a layer over a random sequence, with all gradients if the work asks for them."""
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
    """The article's head: 64 units with elu, then 256 logits."""
    return nn.Sequential(nn.Linear(256, 64), nn.ELU(), nn.Linear(64, 256))


def text_run(recurrent: Layer, modules: nn.Module, work: Workload) -> Run:
    """One training step of the article's text model on random bytes; `recurrent` takes (T, B) bytes."""
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
    """The article's stem: three 5x5 convolutions without padding, leaky ReLU, two poolings."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(3, 16, 5), nn.Conv2d(16, 16, 5), nn.Conv2d(16, 16, 5)])

    def forward(self, x: Tensor) -> Tensor:
        for k, conv in enumerate(self.convs):
            x = nn.functional.leaky_relu(conv(x), 0.2)
            x = nn.functional.max_pool2d(x, 2) if k < 2 else x
        return x


def detector_run(layer: nn.Module, work: Workload, *, channels_last: bool = False) -> Run:
    """One training step of the article's detector on random frames."""
    stem, head = Stem(), nn.Conv2d(16, 1, 1)
    parameters = [*stem.parameters(), *layer.parameters(), *head.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=1e-3)
    frames = torch.rand(work.steps * work.batch, work.c_in, *work.space)
    if channels_last:
        stem = stem.to(memory_format=torch.channels_last)
        frames = frames.contiguous(memory_format=torch.channels_last)
    truth = torch.rand(work.steps, work.batch, 1, 25, 25)

    def run() -> None:
        optimiser.zero_grad(set_to_none=True)
        seen = stem(frames).unflatten(0, (work.steps, work.batch))
        belief = head(layer(seen)[0].flatten(0, 1)).view_as(truth)
        nn.functional.binary_cross_entropy_with_logits(belief, truth).backward()
        optimiser.step()

    return run


def stream_run(
    step: Callable[[Tensor, Tensor | None], Tensor],
    work: Workload,
    *,
    channels_last: bool = False,
) -> Run:
    """One frame through the detector; `step` takes stem features and the state, and gives the next state."""
    stem, head = Stem(), nn.Conv2d(16, 1, 1)
    frame = torch.rand(1, work.c_in, *work.space)
    if channels_last:
        stem = stem.to(memory_format=torch.channels_last)
        frame = frame.contiguous(memory_format=torch.channels_last)
    state: list[Tensor | None] = [None]

    def run() -> None:
        with torch.inference_mode():
            state[0] = step(stem(frame), state[0])
            torch.sigmoid(head(state[0]))

    return run
