"""One training loop, on Lightning Fabric: any device, precision and number of processes.

`fit` is made so that a run that was killed and resumed ends with the very same weights as one that was not:

- the batch of a step is a function of the step's number alone, so there is no reader whose position could be
  lost;
- every step seeds torch from (seed, step, process), so there is no generator whose state could be lost;
- what is left, the optimiser's memory and the carried recurrent state, lies in the `Checkpoint`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from canton.errors import UserError
from canton.training.checkpoint import Checkpoint
from canton.training.ema import Average
from canton.training.schedule import peaks_of, schedule
from canton.training.signals import stop_signals

if TYPE_CHECKING:
    from lightning_fabric import Fabric

State = tuple[Tensor, ...]
"""What a recurrent model carries from batch to batch; the rows of the batch lie on axis 1 of every tensor."""

Loss = Callable[[nn.Module, Any, State | None], tuple[Tensor, State | None]]
"""(model, batch, carried state) -> (loss to lower, state to carry on)."""


@dataclass(frozen=True)
class Report:
    """How a run is doing. `loss` is the mean since the report before (over all processes), in the loss's own
    unit.
    """

    step: int
    seconds: float
    fraction: float
    loss: float
    learning_rate: float
    stopped: bool = False


def fit(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Callable[[int], Any],
    loss: Loss,
    *,
    fabric: Fabric,
    steps: int | None = None,
    minutes: float | None = None,
    warm_up: float = 0.02,
    floor: float = 0.0,
    clip: float | None = 1.0,
    average: Average | None = None,
    seed: int = 0,
    resume: Checkpoint | None = None,
    save: Callable[[Checkpoint], None] | None = None,
    save_seconds: float = 60.0,
    report: Callable[[Report], None] | None = None,
    report_seconds: float = 0.5,
    clock: Callable[[], float] = time.monotonic,
) -> Report:
    """Train `model` until the budget is spent, or Ctrl-C (or SIGTERM) asks it to stop after the step it is
    at.

    The learning rate each parameter group comes with is its peak, and is there again at the end: it is
    reached in a straight line after the first `warm_up` of the budget and falls along half a cosine to
    `floor` times the peak at the budget's end (Loshchilov & Hutter 2016, arXiv:1608.03983). A run with a
    budget in minutes depends on the machine's speed, so only one with a budget in steps can be repeated to
    the bit.

    Args:
        batches: the batch of a step, by the step's number; this process's share, if there are several.
        loss: see `Loss`. The state it returns is cut from its history and handed back at the next step.
        steps, minutes: the budget, one of the two. Minutes include whatever `report` and `save` do.
        clip: the largest norm of all gradients together, None for no limit.
        average: takes in the weights of every step; the model ends with it when the budget is spent.
        seed: what dropout and the like draw from; the caller's own random state is left as it was.
        resume: go on from here; `model` must hold the weights it had then.
        save: is handed a checkpoint every `save_seconds`, and when the run is over or stopped; in process 0
            alone. A run resumed from where it was over does no step, and ends with the same weights.
        report: is told how things are, at the end and every `report_seconds`; in process 0 alone.
        clock: tells seconds; `time.process_time` makes `minutes` minutes of the processor.

    Raises: UserError if the budget is not one positive number, or the loss stops being finite.
    """
    check_budget(steps, minutes)
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    step, before, state = 0, 0.0, None
    if resume is not None:
        step, before = resume.step, resume.seconds
        _restore(optimizer, names, resume.tensors)
        state = _carried(resume.tensors, fabric)
    wrapped, wrapped_optimizer = fabric.setup(model.train(), optimizer)
    began, saved, reported = clock(), before, before
    total, count = torch.zeros((), device=fabric.device), 0
    forked = torch.random.fork_rng(_cuda_devices(fabric))
    with stop_signals() as stop, forked, peaks_of(optimizer) as peaks:
        while True:
            seconds, stopped = _agree(before + clock() - began, stop.is_set(), fabric)
            spent = step / steps if steps is not None else seconds / (60 * (minutes or math.inf))
            over = spent >= 1 or stopped
            rate = schedule(min(spent, 1.0), warm_up=warm_up, floor=floor)
            if over or (count and seconds - reported >= report_seconds):
                mean = _mean(total, count, fabric)
                now = Report(step, seconds, min(spent, 1.0), mean, rate * max(peaks), stopped)
                if count and not math.isfinite(mean):
                    raise UserError(f"the loss is {mean} at step {step}: take a lower learning rate")
                if report is not None and fabric.is_global_zero:
                    report(now)
                total, count, reported = torch.zeros_like(total), 0, seconds
            if save is not None and (over or seconds - saved >= save_seconds):
                kept = average.saved() if average is not None else {}
                checkpoint = Checkpoint(_tensors(optimizer, names, state, fabric) | kept, step, seconds)
                if fabric.is_global_zero:
                    save(checkpoint)
                saved = seconds
            if average is not None and not stopped:
                average.note()
            if over:
                if average is not None and not stopped:
                    average.give()
                return now
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * rate
            torch.manual_seed(_mix(seed, step, fabric.global_rank))
            value, state = loss(wrapped, fabric.to_device(batches(step)), state)
            fabric.backward(value)
            if clip is not None:
                fabric.clip_gradients(wrapped, wrapped_optimizer, max_norm=clip, error_if_nonfinite=False)
            wrapped_optimizer.step()
            wrapped_optimizer.zero_grad(set_to_none=True)
            state = None if state is None else tuple(tensor.detach() for tensor in state)
            total, count, step = total + value.detach(), count + 1, step + 1


def check_budget(steps: int | None, minutes: float | None) -> None:
    """Raises: UserError if the budget is not one positive number."""
    if (steps is None) == (minutes is None):
        raise UserError("the budget is one of steps and minutes: give one of the two")
    if steps is not None and steps < 1:
        raise UserError(f"steps is {steps}: it is a whole number of at least 1")
    if minutes is not None and not 0 < minutes < math.inf:
        raise UserError(f"minutes is {minutes}: it is a number above 0")


def _mix(seed: int, step: int, rank: int) -> int:
    """A seed for one step of one process. Odd multipliers keep neighbours apart; torch takes 64 bits."""
    return (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + rank * 0x94D049BB133111EB) % 2**63


def _mean(total: Tensor, count: int, fabric: Fabric) -> float:
    mean = fabric.all_reduce(total / max(count, 1), reduce_op="mean")
    return mean.item() if count and isinstance(mean, Tensor) else math.nan


def _agree(seconds: float, stop: bool, fabric: Fabric) -> tuple[float, bool]:
    """The clock of process 0, and whether any process was asked to stop: all must turn the same corners."""
    if fabric.world_size == 1:
        return seconds, stop
    mine = torch.tensor([seconds if fabric.is_global_zero else 0.0, float(stop)], device=fabric.device)
    theirs = fabric.all_reduce(mine, reduce_op="sum")
    assert isinstance(theirs, Tensor)
    return float(theirs[0]), bool(theirs[1] > 0)


def _tensors(
    optimizer: torch.optim.Optimizer, names: dict[Tensor, str], state: State | None, fabric: Fabric
) -> dict[str, Tensor]:
    """The optimiser's memory by parameter name, and the carried state of all processes, side by side on axis
    1.
    """
    found = {
        f"optimizer.{key}.{names[parameter]}": value
        for parameter, memory in optimizer.state.items()
        for key, value in memory.items()
        if isinstance(value, Tensor)
    }
    for k, tensor in enumerate(state or ()):
        if fabric.world_size > 1:
            tensor = torch.cat(list(fabric.all_gather(tensor)), dim=1)
        found[f"carried.{k}"] = tensor
    return found


def _restore(optimizer: torch.optim.Optimizer, names: dict[Tensor, str], tensors: dict[str, Tensor]) -> None:
    """Give the optimiser its memory back. `load_state_dict` knows which of it belongs on which device."""
    order = [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]
    table = optimizer.state_dict()
    table["state"] = {}
    for full, tensor in tensors.items():
        kind, _, rest = full.partition(".")
        if kind == "optimizer":
            key, _, name = rest.partition(".")
            table["state"].setdefault(order.index(name), {})[key] = tensor
    optimizer.load_state_dict(table)


def _carried(tensors: dict[str, Tensor], fabric: Fabric) -> State | None:
    """This process's rows of the carried state. The number of processes may have changed since it was
    saved.
    """
    count = sum(name.startswith("carried.") for name in tensors)
    whole = [tensors[f"carried.{k}"] for k in range(count)]
    if any(tensor.shape[1] % fabric.world_size for tensor in whole):
        raise UserError(f"the batch of this run cannot be shared by {fabric.world_size} processes")
    mine = (tensor.chunk(fabric.world_size, dim=1)[fabric.global_rank] for tensor in whole)
    return tuple(tensor.contiguous().to(fabric.device) for tensor in mine) or None


def _cuda_devices(fabric: Fabric) -> list[int]:
    return [fabric.device.index or 0] if fabric.device.type == "cuda" else []
