"""Training loop on Lightning Fabric: any device, precision and number of processes.

A run that is killed and resumed ends with the same bits as an uninterrupted one:

- the batch is a function of the step's number, so no position of a data loader is saved;
- every step seeds torch from (seed, step, process), so no generator state is saved;
- the optimizer's state and the carried recurrent state are in the `Checkpoint`.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from canton.errors import UserError
from canton.training.checkpoint import CARRIED, Checkpoint
from canton.training.ema import EMA
from canton.training.schedule import restore_learning_rates, warmup_cosine
from canton.training.signals import stop_signals

if TYPE_CHECKING:
    from lightning_fabric import Fabric

MAX_ROLLBACKS = 3

State = tuple[Tensor, ...]
"""Recurrent state carried from batch to batch; axis 1 of every tensor is the batch."""

MAX_STEP = 1 << 40
"""Largest number of steps that an optimizer may have done."""

Loss = Callable[[nn.Module, Any, State | None], tuple[Tensor, State | None]]
"""(model, batch, carried state) -> (loss to minimise, next state)."""


@dataclass(frozen=True)
class Report:
    """Progress of a run.

    step: steps done. seconds: training time, including earlier parts of a resumed run. fraction: of the
    budget, in [0, 1]. loss: mean over all processes since the last report, NaN if there was no step.
    learning_rate: of the next step. stopped: True if a signal ended the run. rollbacks: how often the run
    diverged and went back.
    """

    step: int
    seconds: float
    fraction: float
    loss: float
    learning_rate: float
    stopped: bool = False
    rollbacks: int = 0


def fit(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Callable[[int], Any],
    loss: Loss,
    *,
    fabric: Fabric,
    steps: int | None = None,
    minutes: float | None = None,
    accumulate: int = 1,
    warmup: float = 0.02,
    min_lr_ratio: float = 0.0,
    grad_clip: float | None = 1.0,
    ema: EMA | None = None,
    seed: int = 0,
    resume: Checkpoint | None = None,
    on_checkpoint: Callable[[Checkpoint], None] | None = None,
    checkpoint_every_s: float = 60.0,
    on_report: Callable[[Report], bool | None] | None = None,
    report_every_s: float = 0.5,
    clock: Callable[[], float] = time.monotonic,
) -> Report:
    """Train `model` until the budget is spent. Ctrl-C or SIGTERM ends the run after the current step.

    The learning rate of a parameter group is its peak, and is the same again afterwards: see
    `canton.training.schedule.warmup_cosine`. Only a budget in steps is reproducible to the bit; one in
    minutes depends on the machine's speed.

    Args:
        batches: returns this process's share of a step's batch, given the step's number.
        loss: see `Loss`. The returned state is detached and passed to the next step.
        steps, minutes: the budget; exactly one. Minutes include the time of `on_report` and `on_checkpoint`.
        accumulate: batches whose mean gradient makes one step; they are read one after the other.
        warmup: fraction of the budget with a rising learning rate.
        min_lr_ratio: final learning rate as a fraction of the peak.
        grad_clip: maximum norm of the gradients; None does not clip.
        ema: average to update at every step; it is copied to the model when the budget is spent.
        seed: random seed of dropout and the like; the caller's random state is unchanged.
        resume: checkpoint to resume from; `model` must hold the weights of that step.
        on_checkpoint: called every `checkpoint_every_s` seconds and at the end, in process 0. A run resumed
            from its end does no step and keeps its weights.
        on_report: called every `report_every_s` seconds and at the end, in process 0. It returns True if it
            found the model good, False if the run diverged, None if it did not look. A run that diverged, or
            whose loss is not finite, goes back to the last good step and continues at half the learning rate.
        clock: returns seconds; `time.process_time` makes `minutes` processor minutes.

    Returns: the last report.

    Raises: UserError if the budget is not one positive number, the run diverges before a good step or more
    than `MAX_ROLLBACKS` times, or `resume` has other tensors than the optimizer.
    """
    check_budget(steps, minutes)
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    step, before, state = 0, 0.0, None
    rollbacks, good = 0, None
    if resume is not None:
        step, before, rollbacks = resume.step, resume.seconds, min(resume.rollbacks, MAX_ROLLBACKS)
        _load_optimizer(optimizer, names, resume.tensors)
        state = _load_state(resume.tensors, fabric)
    wrapped, wrapped_optimizer = fabric.setup(model.train(), optimizer)
    started, saved, reported = clock(), before, before
    total, count = torch.zeros((), device=fabric.device), 0
    forked = torch.random.fork_rng(_cuda_devices(fabric))
    with stop_signals() as stop, forked, restore_learning_rates(optimizer) as peaks:
        while True:
            seconds = before + clock() - started
            spent = step / steps if steps is not None else seconds / (60 * (minutes or math.inf))
            seconds, spent, stopped = _synchronise(seconds, spent, stop.is_set(), fabric)
            over = spent >= 1 or stopped
            ratio = warmup_cosine(min(spent, 1.0), warmup=warmup, min_lr_ratio=min_lr_ratio)
            ratio *= 0.5**rollbacks
            if over or (count and seconds - reported >= report_every_s):
                mean = _mean(total, count, fabric)
                report = Report(step, seconds, min(spent, 1.0), mean, ratio * max(peaks), stopped, rollbacks)
                finite = not count or math.isfinite(mean)
                verdict = None
                if on_report is not None and fabric.is_global_zero and finite:
                    verdict = on_report(report)
                verdict = _agree(verdict if finite else False, fabric)
                total, count, reported = torch.zeros_like(total), 0, seconds
                if verdict is False:
                    if good is None or rollbacks == MAX_ROLLBACKS:
                        why = "the model became worse" if finite else f"the loss is {mean}"
                        raise UserError(f"training diverged at step {step}, {why}: use a lower learning rate")
                    rollbacks += 1
                    step, state = _restore(good, model, optimizer, ema)
                    continue
                if verdict:
                    good = _snapshot(step, state, model, optimizer, ema)
            if on_checkpoint is not None and (over or seconds - saved >= checkpoint_every_s):
                averaged = ema.state_dict() if ema is not None else {}
                tensors = _optimizer_tensors(optimizer, names) | _state_tensors(state, fabric) | averaged
                if fabric.is_global_zero:
                    on_checkpoint(Checkpoint(tensors, step, seconds, rollbacks))
                saved = seconds
            if ema is not None and not stopped:
                ema.update()
            if over:
                if ema is not None and not stopped:
                    ema.copy_to()
                return report
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * ratio
            for batch in range(step * accumulate, (step + 1) * accumulate):
                torch.manual_seed(_step_seed(seed, batch, fabric.global_rank))
                last = batch + 1 == (step + 1) * accumulate
                with fabric.no_backward_sync(wrapped, enabled=not last):
                    value, state = loss(wrapped, fabric.to_device(batches(batch)), state)
                    fabric.backward(value / accumulate)
                total, count = total + value.detach(), count + 1
                state = None if state is None else tuple(tensor.detach() for tensor in state)
            if grad_clip is not None:
                fabric.clip_gradients(
                    wrapped, wrapped_optimizer, max_norm=grad_clip, error_if_nonfinite=False
                )
            wrapped_optimizer.step()
            wrapped_optimizer.zero_grad(set_to_none=True)
            step += 1


class _Good(NamedTuple):
    """A step to go back to, in memory."""

    step: int
    state: State | None
    weights: dict[str, Any]
    optimizer: dict[str, Any]
    average: dict[str, Any] | None


def _snapshot(
    step: int, state: State | None, model: nn.Module, optimizer: torch.optim.Optimizer, ema: EMA | None
) -> _Good:
    average = None if ema is None else ema.average.state_dict()
    return copy.deepcopy(_Good(step, state, model.state_dict(), optimizer.state_dict(), average))


def _restore(
    good: _Good, model: nn.Module, optimizer: torch.optim.Optimizer, ema: EMA | None
) -> tuple[int, State | None]:
    model.load_state_dict(good.weights)
    optimizer.load_state_dict(copy.deepcopy(good.optimizer))
    if ema is not None and good.average is not None:
        ema.average.load_state_dict(good.average)
    return good.step, good.state


def _agree(verdict: bool | None, fabric: Fabric) -> bool | None:
    """Return False if any process found that the run diverged, else process 0's verdict."""
    if fabric.world_size == 1:
        return verdict
    local = [float(verdict is False), float(verdict is True and fabric.is_global_zero)]
    summed = fabric.all_reduce(torch.tensor(local, device=fabric.device), reduce_op="sum")
    assert isinstance(summed, Tensor)
    return False if summed[0] > 0 else True if summed[1] > 0 else None


def check_budget(steps: int | None, minutes: float | None) -> None:
    """Check the budget.

    Raises: UserError if it is not one positive number.
    """
    if (steps is None) == (minutes is None):
        raise UserError(f"steps or minutes must be given, not both, got steps={steps}, minutes={minutes}")
    if steps is not None and steps < 1:
        raise UserError(f"steps must be >= 1, got {steps}")
    if minutes is not None and not 0 < minutes < math.inf:
        raise UserError(f"minutes must be > 0, got {minutes}")


def _step_seed(seed: int, step: int, rank: int) -> int:
    """Return a seed in [0, 2**63) for one step of one process; odd multipliers separate neighbouring
    steps."""
    return (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + rank * 0x94D049BB133111EB) % 2**63


def _mean(total: Tensor, count: int, fabric: Fabric) -> float:
    mean = fabric.all_reduce(total / max(count, 1), reduce_op="mean")
    return mean.item() if count and isinstance(mean, Tensor) else math.nan


def _synchronise(seconds: float, spent: float, stop: bool, fabric: Fabric) -> tuple[float, float, bool]:
    """Return process 0's clock and spent fraction of the budget, and whether any process was asked to stop.

    All processes must take the same decisions: one that ends earlier would leave the others waiting for it.
    """
    if fabric.world_size == 1:
        return seconds, spent, stop
    local = [seconds, spent, float(stop)] if fabric.is_global_zero else [0.0, 0.0, float(stop)]
    summed = fabric.all_reduce(
        torch.tensor(local, device=fabric.device, dtype=torch.float64), reduce_op="sum"
    )
    assert isinstance(summed, Tensor)
    return float(summed[0]), float(summed[1]), bool(summed[2] > 0)


def _optimizer_tensors(optimizer: torch.optim.Optimizer, names: dict[Tensor, str]) -> dict[str, Tensor]:
    return {
        f"optimizer.{key}.{names[parameter]}": value
        for parameter, values in optimizer.state.items()
        for key, value in values.items()
        if isinstance(value, Tensor)
    }


def _load_optimizer(
    optimizer: torch.optim.Optimizer, names: dict[Tensor, str], tensors: dict[str, Tensor]
) -> None:
    order = [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]
    table, expected = optimizer.state_dict(), _new_state(optimizer)
    table["state"] = {}
    for full, tensor in tensors.items():
        kind, _, rest = full.partition(".")
        if kind == "optimizer":
            key, _, name = rest.partition(".")
            like = expected[order.index(name)].get(key) if name in order else None
            if like is None or tensor.shape != like.shape or tensor.dtype != like.dtype:
                wanted = "absent" if like is None else f"{tuple(like.shape)} {like.dtype}"
                got = f"{tuple(tensor.shape)} {tensor.dtype}"
                raise UserError(f"tensor {full} of the checkpoint must be {wanted}, got {got}")
            if key == "step" and not 0 <= float(tensor) <= MAX_STEP:
                raise UserError(
                    f"tensor {full} of the checkpoint must be in [0, {MAX_STEP}], got {float(tensor)}"
                )
            table["state"].setdefault(order.index(name), {})[key] = tensor
    for place, values in table["state"].items():
        for key in set(expected[place]) - set(values):
            raise UserError(f"tensor optimizer.{key}.{order[place]} of the checkpoint is missing")
    optimizer.load_state_dict(table)  # moves each tensor to its device


def _new_state(optimizer: torch.optim.Optimizer) -> list[dict[str, Tensor]]:
    """Return the tensors of each parameter's state after a step, to compare a checkpoint's with."""
    probe = copy.deepcopy(optimizer)
    parameters = [parameter for group in probe.param_groups for parameter in group["params"]]
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    probe.step()
    return [
        {key: value for key, value in probe.state[parameter].items() if isinstance(value, Tensor)}
        for parameter in parameters
    ]


def _state_tensors(state: State | None, fabric: Fabric) -> dict[str, Tensor]:
    """Return the carried state of all processes, concatenated on axis 1."""
    found = {}
    for k, tensor in enumerate(state or ()):
        if fabric.world_size > 1:
            tensor = torch.cat(list(fabric.all_gather(tensor)), dim=1)
        found[f"{CARRIED}{k}"] = tensor
    return found


def _load_state(tensors: dict[str, Tensor], fabric: Fabric) -> State | None:
    """Return this process's rows of the carried state; the number of processes may have changed."""
    count = sum(name.startswith(CARRIED) for name in tensors)
    whole = [tensors[f"{CARRIED}{k}"] for k in range(count)]
    for tensor in whole:
        if tensor.shape[1] % fabric.world_size:
            raise UserError(f"batch size {tensor.shape[1]} is not divisible by processes {fabric.world_size}")
    local = (tensor.chunk(fabric.world_size, dim=1)[fabric.global_rank] for tensor in whole)
    return tuple(tensor.contiguous().to(fabric.device) for tensor in local) or None


def _cuda_devices(fabric: Fabric) -> list[int]:
    return [fabric.device.index or 0] if fabric.device.type == "cuda" else []
