"""The average of the weights: of which steps, how much; and that it goes on where it stopped."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from canton.errors import UserError
from canton.training.checkpoint import Checkpoint
from canton.training.ema import EMA


def model(value: float) -> nn.Module:
    made = nn.BatchNorm1d(2)
    set_to(made, value)
    return made


def set_to(made: nn.Module, value: float) -> None:
    with torch.no_grad():
        made.weight.fill_(value)  # type: ignore[union-attr,operator]
        made.running_mean.fill_(-value)  # type: ignore[union-attr,operator]
        made.num_batches_tracked.fill_(int(value))  # type: ignore[union-attr,operator]


def noted(made: nn.Module, average: EMA, values: list[float]) -> None:
    for value in values:
        set_to(made, value)
        average.update()


def test_at_first_it_is_mostly_of_the_last_steps_and_not_of_no_step() -> None:
    made = model(0.0)
    average = EMA(made, 0.9)
    noted(made, average, [100.0, 1.0, 12.0, 6.0])  # before any step, after one, two, three
    average.copy_to()
    wanted = 11.0 + (6.0 - 11.0) * 10 / 12  # 1, then 10 / 11 of the way to 12, then 10 / 12 of that to 6
    torch.testing.assert_close(made.weight, torch.full((2,), wanted))
    torch.testing.assert_close(made.running_mean, torch.full((2,), -wanted))
    assert made.num_batches_tracked == 6, "a count is no mean"


def test_later_what_is_long_ago_counts_less() -> None:
    made = model(0.0)
    average = EMA(made, 0.5)
    noted(made, average, [0.0] + 30 * [8.0])
    noted(made, average, [4.0, 2.0])  # 8, then (8 + 4) / 2, then (6 + 2) / 2
    average.copy_to()
    torch.testing.assert_close(made.weight, torch.full((2,), 4.0))


def test_none_keeps_the_last() -> None:
    made = model(0.0)
    average = EMA(made, 0.0)
    noted(made, average, [0.0, 8.0, 3.0])
    average.copy_to()
    torch.testing.assert_close(made.weight, torch.full((2,), 3.0))


def test_it_goes_on_to_the_same_bits() -> None:
    values = [float(value) for value in torch.randn(9, generator=torch.manual_seed(0))]
    made = model(0.0)
    whole = EMA(made, 0.7)
    noted(made, whole, values)

    made = model(0.0)
    first = EMA(made, 0.7)
    noted(made, first, values[:5])  # before steps 0 to 4: then step 4 was made, and all was saved
    saved = Checkpoint({"optimizer.x": torch.ones(1), **first.state_dict()}, 5, 1.0)
    noted(made, first, [1e9])  # what the run that was killed still did
    second = EMA(model(0.0), 0.7, saved)
    noted(second.model, second, values[5:])
    assert all(torch.equal(whole.tensors[name], second.tensors[name]) for name in whole.tensors)


def test_a_checkpoint_without_an_average_is_refused() -> None:
    with pytest.raises(UserError, match="begin a new one"):
        EMA(model(0.0), 0.7, Checkpoint({"optimizer.x": torch.ones(1)}, 5, 1.0))
