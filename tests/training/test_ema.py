"""Exponential moving average: the weight of each step, buffers, resuming."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from canton.errors import UserError
from canton.training.checkpoint import Checkpoint
from canton.training.ema import EMA


def batch_norm(value: float = 0.0) -> nn.BatchNorm1d:
    model = nn.BatchNorm1d(2)
    fill(model, value)
    return model


def fill(model: nn.BatchNorm1d, value: float) -> None:
    assert model.running_mean is not None
    assert model.num_batches_tracked is not None
    with torch.no_grad():
        model.weight.fill_(value)
        model.running_mean.fill_(-value)
        model.num_batches_tracked.fill_(int(value))


def update(model: nn.BatchNorm1d, ema: EMA, values: list[float]) -> None:
    for value in values:
        fill(model, value)
        ema.update()


def test_step_k_has_weight_10_over_k_plus_9() -> None:
    model = batch_norm()
    ema = EMA(model, 0.9)
    update(model, ema, [100.0, 1.0, 12.0, 6.0])  # the initial weights, then three steps
    ema.copy_to()
    expected = 11.0 + (6.0 - 11.0) * 10 / 12  # 1, then 10 / 11 of the way to 12, then 10 / 12 of that to 6
    torch.testing.assert_close(model.weight, torch.full((2,), expected))
    torch.testing.assert_close(model.running_mean, torch.full((2,), -expected))
    assert model.num_batches_tracked == 6, "an integer buffer is copied, not averaged"


def test_late_steps_have_weight_1_minus_decay() -> None:
    model = batch_norm()
    ema = EMA(model, 0.5)
    update(model, ema, [0.0] + 30 * [8.0])
    update(model, ema, [4.0, 2.0])  # 8, then (8 + 4) / 2, then (6 + 2) / 2
    ema.copy_to()
    torch.testing.assert_close(model.weight, torch.full((2,), 4.0))


def test_decay_0_keeps_the_last_weights() -> None:
    model = batch_norm()
    ema = EMA(model, 0.0)
    update(model, ema, [0.0, 8.0, 3.0])
    ema.copy_to()
    torch.testing.assert_close(model.weight, torch.full((2,), 3.0))


def test_a_resumed_average_has_the_same_bits() -> None:
    values = [float(value) for value in torch.randn(9, generator=torch.manual_seed(0))]
    model = batch_norm()
    whole = EMA(model, 0.7)
    update(model, whole, values)

    model = batch_norm()
    first = EMA(model, 0.7)
    update(model, first, values[:5])  # before steps 0 to 4; the checkpoint is taken after step 4
    checkpoint = Checkpoint({"optimizer.x": torch.ones(1), **first.state_dict()}, 5, 1.0)
    update(model, first, [1e9])  # work of the killed run after its checkpoint
    model = batch_norm()
    second = EMA(model, 0.7, checkpoint)
    update(model, second, values[5:])
    resumed = second.state_dict()
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.state_dict().items())


def test_a_checkpoint_without_an_average_is_refused() -> None:
    with pytest.raises(UserError, match="average"):
        EMA(batch_norm(), 0.7, Checkpoint({"optimizer.x": torch.ones(1)}, 5, 1.0))
