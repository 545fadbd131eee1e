"""Adding an early memory: same output at first, then trainable."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from canton.errors import UserError
from canton.track.model import Architecture, TrackModel
from canton.track.surgery import add_early_memory

SMALL = Architecture(
    stem=((6, 5, True), (8, 3, True)), early=0, memory=6, head=8, distractor_classes=("bird",)
)


def test_output_is_unchanged() -> None:
    small = TrackModel(SMALL)
    large = add_early_memory(small, 4)
    assert large.architecture == replace(SMALL, early=4)
    frames = torch.rand(5, 2, 3, 32, 48)
    for one in (small.train(), large.train()):  # sets the batch norm statistics
        one(frames)
    with torch.inference_mode():
        expected, (state,) = small.eval()(frames)
        found, (fine, after) = large.eval()(frames)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(after, state)
    assert fine.abs().max() > 0, "the early memory remembers, unheard as yet"


def test_new_memory_is_trainable() -> None:
    torch.manual_seed(0)
    large = add_early_memory(TrackModel(SMALL), 4).train()
    frames = torch.rand(4, 1, 3, 32, 48)
    step = torch.optim.SGD(large.parameters(), lr=0.1)
    for _ in range(2):  # the first step makes the new weights nonzero, the second reaches the early memory
        step.zero_grad()
        large(frames)[0].square().mean().backward()
        step.step()
    assert large.stem[1].conv.weight[:, 6:].abs().max() > 0
    gradients = [p.grad for p in large.early.parameters()]
    assert all(grad is not None and grad.abs().max() > 0 for grad in gradients)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [(replace(SMALL, early=2), "early"), (replace(SMALL, stem=((6, 5, True),)), "stem")],
)
def test_invalid_architectures(wrong: Architecture, said: str) -> None:
    with pytest.raises(UserError, match=said):
        add_early_memory(TrackModel(wrong), 4)
