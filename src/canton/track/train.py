"""Training a motion model: footage, made scenes or both in, model file out."""

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
from canton.track.data.batches import Batch, Batches, ahead, to_model
from canton.track.data.frame_cache import Stored
from canton.track.data.labels import as_kind
from canton.track.metrics import choose_threshold, enlarged, look, recall_by_frame, score
from canton.track.model import Architecture, MotionModel, State
from canton.track.surgery import add_early_memory
from canton.track.targets import motion_loss
from canton.track.train_config import check, complete
from canton.track.train_sources import open_source
from canton.training.curve import Curve
from canton.training.ema import EMA
from canton.training.fabric import make_fabric
from canton.training.fit import Report, fit

PLACES = ("start", "footage", "backgrounds")
"""Settings that are files or folders."""


class Progress(NamedTuple):
    """What a run tells while it goes. loss: nats a frame (and the error of the sizes), since the last
    time.
    """

    step: int
    fraction: float
    loss: float
    frames_per_second: float
    seconds: float
    seconds_left: float
    learning_rate: float


class Trained(NamedTuple):
    """What a run came to. held_out: the figures of the held-out clips at the threshold chosen on them; None
    if the run was stopped.
    """

    model: MotionModel
    held_out: dict[str, Any] | None
    report: Report
    finished: bool
    curve: Curve


def train(
    out: Path,
    *,
    footage: Path | None = None,
    scenes: bool | None = None,
    scene_share: float | None = None,
    scene_kind: str | None = None,
    backgrounds: Path | None = None,
    sought: str | None = None,
    modality: str | None = None,
    batch: int | None = None,
    length: int | None = None,
    pieces: int | None = None,
    singles: int | None = None,
    size: int | None = None,
    rate: float | None = None,
    weight_decay: float | None = None,
    clip: float | None = None,
    average: float | None = None,
    seed: int | None = None,
    fps: float | None = None,
    width: int | None = None,
    architecture: Architecture | None = None,
    start: Path | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    resume: bool = False,
    workers: int = 1,
    accelerator: str = "cpu",
    processes: int = 1,
    precision: str = "32-true",
    log: Path | None = None,
    show: Callable[[Progress], None] | None = None,
    show_seconds: float = 0.5,
    prepare: Callable[[int, int], None] | None = None,
    warn: Callable[[str], None] | None = None,
    save_seconds: float = 60.0,
    clock: Callable[[], float] = time.monotonic,
) -> Trained | None:
    """Train a motion model and leave it in `out`; a run that stops early leaves there what it needs to go on.

    Settings left out are those of `canton.track.train_config.RECIPE`, or, with `resume`, of the run in
    `out`. A run in `steps` that was interrupted and resumed ends with the bits of one that was not.

    Args:
        footage: a folder of annotated clips (`canton.track.data.dataset`), trained on its train split and
            scored on its val split; none: scenes alone.
        scenes: learn from made scenes too; left out: only if there is no footage.
        scene_share: of the windows that are made scenes, where there is footage too; scene_kind and
            backgrounds: see `canton.track.synthetic.make_scene`.
        sought: the kind of thing to find; where `Architecture.others` names it, drone takes its place there.
        modality: footage of this one alone.
        batch: windows side by side, over all processes; length: frames of each a step; pieces: steps a window
            lasts, its state carried on; singles: blocks of so many steps, at the beginning, in which every
            frame is a window of its own; size: px of its side.
        rate: peak learning rate; clip: see `canton.training.fit`; average: the decay of `EMA`, which is
            what a finished run keeps; 0 keeps the last weights.
        fps: frames a second to learn at; width: footage that is wider is scaled to so many px.
        architecture: of a new network; start: or a finished model, whose weights are learned on from. Where
            both are given they are the same but, perhaps, for `recurrent` (a network that learned from single
            frames may learn to remember) and an early memory that `start` lacks (`add_early_memory`).
        steps, minutes: the budget, one of the two; 10 minutes if neither is given.
        workers: processes that prepare windows beside the one that trains.
        accelerator, processes, precision, log, clock: see `canton.training.fit`.
        show: is told how things are, every `show_seconds`; prepare: how many clips are decoded, of how many;
            warn: in a line each, what is wrong with some of them and keeps none from learning.

    Returns: what it came to; None in processes other than the first.

    Raises: UserError for a folder or setting that will not do, before anything is written.
    """
    require("safetensors", extra="track")
    check_writable(out)
    if out.exists() and not resume:
        check_replaceable(out)
    given: dict[str, Any] = {
        "scene_share": scene_share, "scene_kind": scene_kind, "modality": modality,
        "sought": None if sought is None else as_kind(sought),
        "batch": batch, "length": length, "pieces": pieces, "singles": singles, "size": size, "rate": rate,
        "weight_decay": weight_decay, "clip": clip, "average": average, "seed": seed, "fps": fps,
        "width": width,
        "start": str(start.resolve()) if start else None,
        "footage": str(footage.resolve()) if footage else None,
        "backgrounds": str(backgrounds.resolve()) if backgrounds else None,
        "scenes": scenes,
        "steps": steps,
        "minutes": minutes,
    }  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None}
    held = _resumed(out, given, architecture) if resume else None
    chosen = dict(held.header["training"]) if held else complete(given)
    check(chosen, processes, workers, save_seconds)
    model = held.model if held else _new(architecture, start, chosen)
    source = open_source(chosen, prepare)
    fabric = make_fabric(
        accelerator=accelerator,
        processes=processes,
        precision=precision,
        log_dir=log,
    )
    fabric.launch()
    if warn is not None and fabric.is_global_zero:
        for problem in source.problems:
            warn(problem)
    checkpoint = held.checkpoint if held else None
    batches = Batches(
        source.draw,
        model.architecture,
        sought=chosen["sought"],
        size=chosen["size"],
        rows=chosen["batch"],
        length=chosen["length"],
        pieces=chosen["pieces"],
        singles=chosen["singles"],
        seed=chosen["seed"],
        rank=fabric.global_rank,
        world=fabric.world_size,
    )
    curve = Curve.from_json(held.header["curve"] if held else None)
    header: dict[str, Any] = {"training": chosen, "threshold": 0.5, "held_out": None}
    report = fit(
        model,
        torch.optim.AdamW(
            model.parameters(), lr=chosen["rate"], betas=(0.9, 0.98), weight_decay=chosen["weight_decay"]
        ),
        ahead(batches, checkpoint.step if checkpoint else 0, workers=workers),
        window_loss,
        fabric=fabric,
        steps=chosen["steps"],
        minutes=chosen["minutes"],
        warmup=0.05,
        grad_clip=chosen["clip"],
        ema=EMA(model, chosen["average"], checkpoint),
        seed=chosen["seed"],
        resume=checkpoint,
        on_checkpoint=lambda checkpoint: save_model(
            out, model, header | {"curve": curve.to_json()}, checkpoint
        ),
        checkpoint_every_s=save_seconds,
        on_report=_Watch(chosen, fabric.log_dict, show, checkpoint.step if checkpoint else 0, curve),
        report_every_s=show_seconds,
        clock=clock,
    )
    if not fabric.is_global_zero:
        return None
    if report.stopped:
        return Trained(model, None, report, False, curve)
    try:
        header |= measure(model, source.held_out(), sought=chosen["sought"])
    except KeyboardInterrupt:  # `fit` has saved the run at its end
        return Trained(model, None, report, False, curve)
    places = {name: Path(chosen[name]).name for name in PLACES if chosen[name]}
    header["training"] = {  # whoever gets the model need not know where on this machine things lie
        **chosen, **places, "steps_done": report.step, "seconds": round(report.seconds, 3)
    }  # fmt: skip
    header["curve"] = curve.to_json()
    save_model(out, model, header)
    return Trained(model, header["held_out"], report, True, curve)


def window_loss(model: nn.Module, batch: Batch, state: State | None) -> tuple[Tensor, State]:
    """The loss of a batch of windows, and the state after it."""
    maps, after = model(to_model(batch), None if batch.fresh else state, batch.reset)
    return motion_loss(maps, batch.target), after


def measure(model: MotionModel, clips: Sequence[Stored], *, sought: str) -> dict[str, Any]:
    """What a model file says of held-out clips: the threshold chosen on them and the figures there."""
    looks, nearer = look(model, clips), look(model, map(enlarged, clips), every=2)
    threshold = choose_threshold(looks, nearer, sought=sought)
    scores = score(looks, threshold, sought=sought)
    held_out = {
        **{name: round(value, 4) for name, value in scores._asdict().items()},
        "recall_by_frame": [round(value, 4) for value in recall_by_frame(looks, threshold, sought=sought)],
        "frames": len(looks),
    }
    return {"threshold": threshold, "held_out": held_out}


def _new(architecture: Architecture | None, start: Path | None, chosen: dict[str, Any]) -> MotionModel:
    sought = chosen["sought"]
    with torch.random.fork_rng([]):
        torch.manual_seed(chosen["seed"])
        if start is None:
            return MotionModel((architecture or Architecture()).seeking(sought))
        held = load_model(start)
        if held.checkpoint is not None:
            raise UserError(f"{start} is a run that is not finished: go on with it, or name a finished model")
        begun = held.model
        if sought in begun.architecture.others:
            raise UserError(f"{start} learned what a {sought} is not: begin a new network to seek one")
        wanted = architecture.seeking(sought) if architecture else begun.architecture
        if wanted.early and not begun.architecture.early:
            begun = add_early_memory(begun, wanted.early)
        if replace(wanted, recurrent=begun.architecture.recurrent) != begun.architecture:
            raise UserError(f"{start} is another network: leave the model's settings out to start from it")
        model = MotionModel(wanted)
        model.load_state_dict(begun.state_dict())
        return model


def _resumed(out: Path, given: dict[str, Any], architecture: Architecture | None) -> ModelFile:
    """The run in `out`; whatever was `given` must be what it was begun with."""
    held = load_model(out)
    if held.checkpoint is None:
        raise UserError(f"{out} is a finished model: there is nothing to resume")
    if not set(complete({})) <= set(held.header["training"]):
        raise UserError(f"{out} was begun by another version of Canton, with other settings: begin a new run")
    for name, value in given.items():
        begun = held.header["training"].get(name)
        if begun != value:
            raise UserError(f"{out} was begun with {name} {begun}, not {value}: leave it out to resume")
    sought = held.header["training"]["sought"]
    if architecture and architecture.seeking(sought) != held.model.architecture:
        raise UserError(f"{out} was begun with another network: leave the model's settings out to resume")
    return held


class _Watch:
    """Turns `fit`'s reports into `Progress`; `curve` gets a point of each."""

    def __init__(
        self,
        settings: dict[str, Any],
        log: Callable[[dict[str, float], int], None],
        show: Callable[[Progress], None] | None,
        step: int,
        curve: Curve,
    ) -> None:
        self.step_frames = settings["batch"] * settings["length"]
        self.log, self.show, self.last_step, self.last = log, show, step, time.monotonic()
        self.curve = curve

    def __call__(self, report: Report) -> None:
        now = time.monotonic()
        speed = (report.step - self.last_step) * self.step_frames / max(now - self.last, 1e-9)
        self.last_step, self.last = report.step, now
        rate = report.learning_rate
        self.curve.note(report.step, report.seconds, report.loss)
        self.log({"loss": report.loss, "learning_rate": rate, "frames_per_second": speed}, report.step)
        if self.show is not None:
            left = report.seconds * (1 / max(report.fraction, 1e-9) - 1)
            self.show(Progress(report.step, report.fraction, report.loss, speed, report.seconds, left, rate))
