"""Training of the tracker's network on footage, synthetic scenes or both."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from canton.errors import UserError, require
from canton.io.atomic import check_writable
from canton.track.checkpoint import ModelFile, check_replaceable, load_model, save_model
from canton.track.data.batches import Batch, Batches, batch_to_input, prefetch_batches
from canton.track.data.frame_cache import CachedClip
from canton.track.metrics import choose_threshold, enlarge, predict_windows, recall_by_frame, score
from canton.track.model import Architecture, State, TrackModel
from canton.track.surgery import add_early_memory
from canton.track.targets import track_loss
from canton.track.train_config import PATHS, TrainConfig
from canton.track.train_sources import open_source
from canton.training.curve import Curve
from canton.training.ema import EMA
from canton.training.fabric import make_fabric
from canton.training.fit import Report, fit
from canton.training.settings import check_resumable


class Progress(NamedTuple):
    """The state of a run.

    Attributes:
        step: steps done.
        fraction: share of the budget that is spent, in [0, 1].
        loss: mean loss since the last report, in nats per frame plus the size error.
        frames_per_second: training speed.
        seconds: time since the start.
        seconds_left: estimated time to the end.
        learning_rate: of the current step.
    """

    step: int
    fraction: float
    loss: float
    frames_per_second: float
    seconds: float
    seconds_left: float
    learning_rate: float


class Trained(NamedTuple):
    """The result of a run.

    Attributes:
        model: the trained network.
        held_out: scores on the held-out clips at the threshold chosen there; None if the run was stopped.
        report: the last report of the training loop.
        finished: False if the run was stopped.
        curve: loss over the steps.
    """

    model: TrackModel
    held_out: dict[str, Any] | None
    report: Report
    finished: bool
    curve: Curve


def train(
    config: TrainConfig | None = None,
    *,
    out: Path,
    resume: bool = False,
    log_dir: Path | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_decode: Callable[[int, int], None] | None = None,
    on_warning: Callable[[str], None] | None = None,
    progress_seconds: float = 0.5,
    clock: Callable[[], float] = time.monotonic,
) -> Trained | None:
    """Train a network and write it to `out`.

    A run that is stopped by Ctrl-C or SIGTERM, or killed after a save, leaves a checkpoint in `out`. If its
    length is given in steps, the resumed run ends with the same bits as an uninterrupted one.

    Args:
        config: the settings. None: the defaults or, with `resume`, the settings of the run in `out`.
        out: the model file to write.
        resume: continue the run in `out`.
        log_dir: directory for TensorBoard logs.
        on_progress: called every `progress_seconds`, in process 0.
        on_decode: called with the number of clips decoded and their total, before training.
        on_warning: called with one line for each problem with the clips, in process 0.
        clock: returns seconds; `time.process_time` measures processor time.

    Returns:
        The result; None in processes other than the first.

    Raises:
        UserError: a folder, a file or a setting is invalid. Nothing has been written.
    """
    require("safetensors", extra="track")
    check_writable(out)
    if out.exists() and not resume:
        check_replaceable(out)
    config = None if config is None else config.resolve()
    checkpoint = None
    if resume:
        config, saved = _load_run(out, config)
        model, checkpoint, curve = saved.model, saved.checkpoint, Curve.from_json(saved.header.get("curve"))
    else:
        config = config or TrainConfig().resolve()
        model, curve = _new_model(config), Curve()
    source = open_source(config, on_decode)
    fabric = make_fabric(
        accelerator=config.device,
        processes=config.processes,
        precision=config.precision,
        log_dir=log_dir,
    )
    fabric.launch()
    if on_warning is not None and fabric.is_global_zero:
        for problem in source.problems:
            on_warning(problem)
    first_step = checkpoint.step if checkpoint else 0
    batches = Batches(
        source.sample, model.architecture, config, rank=fabric.global_rank, world_size=fabric.world_size
    )
    header: dict[str, Any] = {"training": config.to_json(), "threshold": 0.5, "held_out": None}
    report = fit(
        model,
        torch.optim.AdamW(
            model.parameters(),
            lr=config.learning_rate,
            betas=(0.9, 0.98),
            weight_decay=config.weight_decay,
        ),
        prefetch_batches(batches, first_step, workers=config.workers),
        window_loss,
        fabric=fabric,
        steps=config.steps,
        minutes=config.budget_minutes,
        warmup=0.05,
        grad_clip=config.grad_clip,
        ema=EMA(model, config.ema_decay, checkpoint),
        seed=config.seed,
        resume=checkpoint,
        on_checkpoint=lambda checkpoint: save_model(
            out, model, header | {"curve": curve.to_json()}, checkpoint
        ),
        checkpoint_every_s=config.save_seconds,
        on_report=_Reporter(config, fabric.log_dict, on_progress, first_step, curve),
        report_every_s=progress_seconds,
        clock=clock,
    )
    if not fabric.is_global_zero:
        return None
    if report.stopped:
        return Trained(model, None, report, False, curve)
    try:
        header |= measure(model, source.held_out(), target_class=config.target_class)
    except KeyboardInterrupt:  # `fit` has saved the run at its end
        return Trained(model, None, report, False, curve)
    # A finished model names files without their folders, which are of no use on another machine.
    names: dict[str, Any] = {
        name: Path(path.name) for name in PATHS if (path := getattr(config, name)) is not None
    }
    header |= {
        "training": replace(config, **names).to_json(),
        "steps_done": report.step,
        "seconds": round(report.seconds, 3),
        "curve": curve.to_json(),
    }
    save_model(out, model, header)
    return Trained(model, header["held_out"], report, True, curve)


def window_loss(model: nn.Module, batch: Batch, state: State | None) -> tuple[Tensor, State]:
    """Return the loss of a batch of windows and the state after it."""
    maps, after = model(batch_to_input(batch), None if batch.state_reset else state, batch.reset)
    return track_loss(maps, batch.target), after


def measure(model: TrackModel, clips: Sequence[CachedClip], *, target_class: str) -> dict[str, Any]:
    """Return `threshold`, chosen on held-out clips, and `held_out`, the scores there, for a model file."""
    predictions, nearer = predict_windows(model, clips), predict_windows(model, map(enlarge, clips), every=2)
    threshold = choose_threshold(predictions, nearer, target_class=target_class)
    scores = score(predictions, threshold, target_class=target_class)
    recall = recall_by_frame(predictions, threshold, target_class=target_class)
    held_out = {
        **{name: round(value, 4) for name, value in scores._asdict().items()},
        "recall_by_frame": [round(value, 4) for value in recall],
        "frames": len(predictions),
    }
    return {"threshold": threshold, "held_out": held_out}


def _new_model(config: TrainConfig) -> TrackModel:
    """Return a new network, or that of `config.start`, with an early ConvGRU added if required."""
    target_class, architecture = config.target_class, config.model
    with torch.random.fork_rng([]):
        torch.manual_seed(config.seed)
        if config.start is None:
            return TrackModel((architecture or Architecture()).for_target(target_class))
        saved = load_model(config.start)
        if saved.checkpoint is not None:
            raise UserError(f"start must be a finished model, got {config.start}, an unfinished run")
        start = saved.model
        if target_class in start.architecture.distractor_classes:
            raise UserError(
                f"target_class must not be a distractor class of start ({config.start}), got {target_class}: "
                "train a new network"
            )
        architecture = architecture.for_target(target_class) if architecture else start.architecture
        if architecture.early and not start.architecture.early:
            start = add_early_memory(start, architecture.early)
        if replace(architecture, recurrent=start.architecture.recurrent) != start.architecture:
            raise UserError(
                f"start must have the given architecture, got {config.start} with another: omit the "
                "model's settings to fine-tune it"
            )
        model = TrackModel(architecture)
        model.load_state_dict(start.state_dict())
        return model


def _load_run(out: Path, config: TrainConfig | None) -> tuple[TrainConfig, ModelFile]:
    """Return the settings and the file of the unfinished run in `out`."""
    saved = load_model(out)
    if saved.checkpoint is None:
        raise UserError(f"resume must be used with an unfinished run, got {out}, a finished model")
    try:
        saved_config = TrainConfig.from_header(saved.header)
        rows, size = saved_config.batch_size, saved_config.crop_size
        single = rows * saved_config.frames_per_step  # of `single_frame_steps`
        saved.checkpoint.check_carried(saved.model.empty_state(1, size, size), rows=(rows, single))
    except UserError as error:
        raise UserError(f"cannot resume {out}: {error}") from error
    if config is None:
        return saved_config, saved
    network = config.model.for_target(config.target_class) if config.model else saved_config.model
    config = replace(config, model=network)
    check_resumable(saved_config, config)
    return config, saved


class _Reporter:
    """A converter of the training loop's reports to `Progress`; adds a point of each to `curve`."""

    def __init__(
        self,
        config: TrainConfig,
        log: Callable[[dict[str, float], int], None],
        on_progress: Callable[[Progress], None] | None,
        step: int,
        curve: Curve,
    ) -> None:
        self.frames_per_step = config.batch_size * config.frames_per_step
        self.log, self.on_progress, self.curve = log, on_progress, curve
        self.last_step, self.last = step, time.monotonic()

    def __call__(self, report: Report) -> None:
        now = time.monotonic()
        speed = (report.step - self.last_step) * self.frames_per_step / max(now - self.last, 1e-9)
        self.last_step, self.last = report.step, now
        rate = report.learning_rate
        self.curve.add(report.step, report.seconds, report.loss)
        self.log({"loss": report.loss, "learning_rate": rate, "frames_per_second": speed}, report.step)
        if self.on_progress is not None:
            left = report.seconds * (1 / max(report.fraction, 1e-9) - 1)
            self.on_progress(
                Progress(report.step, report.fraction, report.loss, speed, report.seconds, left, rate)
            )
