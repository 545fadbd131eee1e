"""Training loop: schedule, budget, exact resume, signals."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from canton.cells.gru import GRU
from canton.errors import UserError
from canton.training.checkpoint import Checkpoint
from canton.training.fabric import make_fabric, world_size
from canton.training.fit import Report, State, fit
from canton.training.schedule import warmup_cosine

Fabric = pytest.importorskip(
    "lightning_fabric", reason="lightning-fabric is not installed (canton-torch[text])"
).Fabric


class Small(nn.Module):
    """A GRU that learns to repeat the previous input, with dropout to use the random generator."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.drop, self.out = GRU(2, 6), nn.Dropout(0.2), nn.Linear(6, 2)

    def forward(self, xs: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        ys, new_state = self.rnn(xs, state)
        return self.out(self.drop(ys)), new_state


def batches(step: int) -> Tensor:
    return torch.randn(8, 4, 2, generator=torch.Generator().manual_seed(step // 5))


def echo_loss(model: nn.Module, batch: Tensor, state: State | None) -> tuple[Tensor, State]:
    ys, new_state = model(batch, None if state is None else state[0])
    return nn.functional.mse_loss(ys[1:], batch[:-1]), (new_state,)


def run(
    *,
    steps: int | None = None,
    minutes: float | None = None,
    model: Small | None = None,
    resume: Checkpoint | None = None,
    save: Callable[[Checkpoint], None] | None = None,
    save_seconds: float = 1e9,
    report: Callable[[Report], bool | None] | None = None,
    clock: Callable[[], float] | None = None,
    clip: float | None = 1.0,
    rate: float = 1e-2,
    sgd: bool = False,
) -> Small:
    if model is None:
        torch.manual_seed(1)
        model = Small()
    optimizer = torch.optim.SGD if sgd else torch.optim.AdamW
    extra = {} if clock is None else {"clock": clock}
    fit(
        model, optimizer(model.parameters(), lr=rate), batches, echo_loss, fabric=make_fabric(), steps=steps,
        minutes=minutes, warmup=0.25, grad_clip=clip, resume=resume, on_checkpoint=save,
        checkpoint_every_s=save_seconds,
        on_report=report, report_every_s=0.0, **extra,
    )  # fmt: skip
    return model


def weights(model: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_linear_warmup_and_cosine_decay() -> None:
    assert warmup_cosine(0.0, warmup=0.1, min_lr_ratio=0.0) == pytest.approx(0.01)
    assert warmup_cosine(0.05, warmup=0.1, min_lr_ratio=0.0) == pytest.approx(
        0.51 * 0.5 * (1 + math.cos(0.05 * math.pi))
    )
    assert warmup_cosine(0.5, warmup=0.1, min_lr_ratio=0.0) == pytest.approx(0.5)
    assert warmup_cosine(1.0, warmup=0.1, min_lr_ratio=0.0) == pytest.approx(0.0, abs=1e-12)
    assert warmup_cosine(1.0, warmup=0.1, min_lr_ratio=0.2) == pytest.approx(0.2)
    assert warmup_cosine(0.0, warmup=0.0, min_lr_ratio=0.0) == 1.0


def test_a_run_that_diverges_goes_back_to_the_last_good_step() -> None:
    def diverging(at: int) -> tuple[list[Report], Small]:
        """Step 4 is good; at step `at` the run diverged, once."""
        history: list[Report] = []

        def judge(report: Report) -> bool | None:
            history.append(report)
            diverged = report.step == at and not report.rollbacks
            return False if diverged else True if report.step == 4 else None

        return history, run(steps=12, report=judge)

    history, model = diverging(9)
    steps = [report.step for report in history]
    assert steps == [*range(1, 10), *range(5, 13)]
    first, again = (next(r for r in part if r.step == 6) for part in (history, history[9:]))
    assert (first.rollbacks, again.rollbacks) == (0, 1)
    assert again.learning_rate == pytest.approx(first.learning_rate / 2)
    assert history[9].loss == history[4].loss, "step 5 starts from the same weights, state and optimizer"
    assert not same(weights(model), weights(run(steps=12)))
    assert same(weights(model), weights(diverging(5)[1])), "nothing of the steps after 4 is left"


def test_a_loss_that_is_not_finite_goes_back_too() -> None:
    broken = {7}

    def poisoned(step: int) -> Tensor:
        batch = batches(step)
        if step in broken:
            broken.remove(step)
            return batch * math.nan
        return batch

    history: list[Report] = []

    def judge(report: Report) -> bool:
        history.append(report)
        return True

    torch.manual_seed(1)
    model = Small()
    report = fit(
        model, torch.optim.AdamW(model.parameters()), poisoned, echo_loss, fabric=make_fabric(), steps=12,
        on_report=judge, report_every_s=0.0,
    )  # fmt: skip
    assert report.rollbacks == 1
    assert all(math.isfinite(each.loss) for each in history)
    assert all(bool(weight.isfinite().all()) for weight in model.parameters())


def test_a_run_that_always_diverges_ends_with_an_error() -> None:
    with pytest.raises(UserError, match="diverged at step 9"):
        run(steps=12, report=lambda report: report.step < 9)


def test_accumulated_batches_give_the_gradient_of_their_mean() -> None:
    def pair(step: int) -> Tensor:
        return torch.cat([batches(0), batches(9)], dim=1)

    def halves(step: int) -> Tensor:
        return batches(9 * (step % 2))

    results = []
    for source, accumulate in ((pair, 1), (halves, 2)):
        torch.manual_seed(1)
        model = Small()
        model.drop.p = 0.0
        fit(
            model, torch.optim.SGD(model.parameters(), lr=0.1), source,
            lambda m, batch, state: (echo_loss(m, batch, None)[0], None),
            fabric=make_fabric(), steps=3, accumulate=accumulate, grad_clip=None,
        )  # fmt: skip
        results.append(weights(model))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


def test_torchrun_is_taken_and_srun_refused() -> None:
    torchrun = {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}
    assert world_size(1, torchrun) == world_size(4, torchrun) == 4
    assert world_size(3, {}) == 3
    with pytest.raises(UserError, match="processes"):
        world_size(2, torchrun)
    with pytest.raises(UserError, match="srun"):
        world_size(1, {"SLURM_STEP_ID": "0", "SLURM_NTASKS": "8"})


def test_the_learning_rate_is_restored() -> None:
    model = Small()
    again = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        history: list[Report] = []
        fit(
            model, again, batches, echo_loss, fabric=make_fabric(), steps=8, warmup=0.25,
            on_report=history.append, report_every_s=0.0,
        )  # fmt: skip
        assert max(report.learning_rate for report in history) > 0.08


def test_two_parameter_groups_keep_their_ratio() -> None:
    model = Small()
    groups = [{"params": model.rnn.parameters(), "lr": 0.1}, {"params": model.out.parameters(), "lr": 0.02}]
    optimizer, rates, history = torch.optim.SGD(groups), list[list[float]](), list[Report]()

    def loss(model: nn.Module, batch: Tensor, state: State | None) -> tuple[Tensor, State]:
        rates.append([group["lr"] for group in optimizer.param_groups])
        return echo_loss(model, batch, state)

    fit(
        model, optimizer, batches, loss, fabric=make_fabric(), steps=4, warmup=0.5,
        on_report=history.append, report_every_s=0.0,
    )  # fmt: skip
    ratios = [warmup_cosine(step / 4, warmup=0.5, min_lr_ratio=0.0) for step in range(4)]
    assert rates == [pytest.approx([0.1 * ratio, 0.02 * ratio]) for ratio in ratios]
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.02]
    assert history[0].learning_rate == pytest.approx(0.1 * ratios[history[0].step]), "the largest of them"


def test_random_numbers_depend_on_seed_step_and_process() -> None:
    """No two of them draw the same, and each draws the same again."""

    def drawn(seed: int, rank: int) -> list[float]:
        class Process(Fabric):
            global_rank = rank

        numbers: list[float] = []

        def loss(model: nn.Module, batch: Tensor, state: State | None) -> tuple[Tensor, None]:
            numbers.append(float(torch.rand(())))
            return model(batch, None)[0].mean(), None

        model = Small()
        fit(
            model, torch.optim.SGD(model.parameters(), lr=0.1), batches, loss,
            fabric=Process(accelerator="cpu", devices=1), steps=4, seed=seed,
        )  # fmt: skip
        return numbers

    found = [drawn(seed, rank) for seed in (0, 1, 2) for rank in (0, 1, 2)]
    assert len({number for numbers in found for number in numbers}) == 9 * 4
    assert drawn(1, 2) == found[5]


def test_the_loss_falls() -> None:
    history: list[Report] = []
    run(steps=150, report=history.append, rate=3e-2)
    assert history[-1].step == 150
    first, last = (sum(r.loss for r in part) / 10 for part in (history[:10], history[-10:]))
    assert last < 0.8 * first


def test_a_budget_in_minutes_follows_the_clock() -> None:
    history: list[Report] = []
    ticks = iter(range(10_000))
    run(minutes=2.0, report=history.append, clock=lambda: 3.0 * next(ticks))
    assert history[-1].fraction == 1.0
    assert history[-1].step == 39  # 120 seconds, three a step, and three before the first
    for report in history[:-1]:
        expected = 1e-2 * warmup_cosine(3.0 * (report.step + 1) / 120, warmup=0.25, min_lr_ratio=0.0)
        assert report.learning_rate == pytest.approx(expected)


def test_a_resumed_run_in_minutes_has_the_rest_of_them() -> None:
    ticks = iter(range(10_000))
    history: list[Report] = []
    run(
        minutes=1.0,
        resume=Checkpoint({}, step=10, seconds=45.0),
        report=history.append,
        clock=lambda: float(next(ticks)),
    )
    assert history[-1].step == 10 + 14


def test_gradient_clipping_limits_the_step() -> None:
    torch.manual_seed(1)
    start = weights(Small())
    moved = []
    for clip in (None, 1e-3):
        new_state = weights(run(steps=1, sgd=True, rate=1.0, clip=clip))
        moved.append(
            math.sqrt(sum(float((a - b).square().sum()) for a, b in zip(new_state, start, strict=True)))
        )
    factor = warmup_cosine(0.0, warmup=0.25, min_lr_ratio=0.0)
    assert moved[1] == pytest.approx(1e-3 * factor, rel=1e-2)
    assert moved[0] > 5 * moved[1]


def test_the_random_state_of_the_caller_is_unchanged() -> None:
    torch.manual_seed(1)
    model = Small()
    before = torch.random.get_rng_state()
    run(steps=3, model=model)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("at", [1, 7, 13])
def test_a_resumed_run_ends_with_the_same_bits(at: int) -> None:
    whole = weights(run(steps=20))
    held: list[tuple[Checkpoint, list[Tensor]]] = []
    torch.manual_seed(1)
    model = Small()

    def keep(checkpoint: Checkpoint) -> None:
        if checkpoint.step == at:
            copied = {name: tensor.clone() for name, tensor in checkpoint.tensors.items()}
            held.append((Checkpoint(copied, checkpoint.step, checkpoint.seconds), weights(model)))

    assert same(weights(run(steps=20, model=model, save=keep, save_seconds=0.0)), whole)
    checkpoint, then = held[0]
    torch.manual_seed(99)
    again = Small()
    with torch.no_grad():
        for parameter, tensor in zip(again.parameters(), then, strict=True):
            parameter.copy_(tensor)
    assert same(weights(run(steps=20, model=again, resume=checkpoint)), whole)
    for name in checkpoint.tensors:  # each tensor is used
        if name.startswith(("carried", "optimizer.exp_avg.out", "optimizer.exp_avg_sq.out")):
            changed = {**checkpoint.tensors, name: checkpoint.tensors[name] * 1.5 + 0.01}
            with torch.no_grad():
                for parameter, tensor in zip(again.parameters(), then, strict=True):
                    parameter.copy_(tensor)
            wrong = Checkpoint(changed, at, checkpoint.seconds)
            assert not same(weights(run(steps=20, model=again, resume=wrong)), whole), name


def test_a_finished_run_resumes_without_a_step() -> None:
    saved: list[Checkpoint] = []
    model = run(steps=6, save=saved.append)
    assert [checkpoint.step for checkpoint in saved] == [6]
    before = [tensor.clone() for tensor in weights(model)]
    reports: list[Report] = []
    assert same(weights(run(steps=6, model=model, resume=saved[0], report=reports.append)), before)
    assert [report.step for report in reports] == [6]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_after_the_step_and_saves(number: signal.Signals) -> None:
    history: list[Report] = []
    saved: list[Checkpoint] = []

    def interrupt(report: Report) -> None:
        history.append(report)
        if report.step == 5:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    run(steps=50, report=interrupt, save=saved.append)
    assert history[-1].stopped
    assert [checkpoint.step for checkpoint in saved] == [history[-1].step]
    assert 5 <= history[-1].step <= 6
    assert signal.getsignal(number) is before


def test_a_loss_that_is_not_finite_raises() -> None:
    model = Small()
    with torch.no_grad():
        model.out.bias.fill_(math.nan)
    with pytest.raises(UserError, match="loss is nan"):
        run(steps=5, model=model)


@pytest.mark.parametrize(
    ("steps", "minutes"), [(None, None), (1, 1.0), (0, None), (None, 0.0), (None, math.nan), (None, math.inf)]
)
def test_invalid_budgets(steps: int | None, minutes: float | None) -> None:
    with pytest.raises(UserError, match=r"steps|minutes"):
        run(steps=steps, minutes=minutes)


def test_an_invalid_precision() -> None:
    with pytest.raises(UserError, match="17-true"):
        make_fabric(precision="17-true")


def test_bf16_mixed_trains() -> None:
    torch.manual_seed(1)
    model = Small()
    before = weights(model)
    fit(
        model, torch.optim.AdamW(model.parameters(), lr=1e-2), batches, echo_loss,
        fabric=make_fabric(precision="bf16-mixed"), steps=3,
    )  # fmt: skip
    assert not same(weights(model), before)
    assert all(torch.isfinite(w).all() for w in weights(model))


@pytest.mark.parametrize(("device", "there"), [("cuda", torch.cuda), ("mps", torch.backends.mps)])
def test_an_unavailable_device(monkeypatch: pytest.MonkeyPatch, device: str, there: Any) -> None:
    monkeypatch.setattr(there, "is_available", lambda: False)
    with pytest.raises(UserError, match=f"accelerator {device}"):
        make_fabric(accelerator=device)
