"""Training a byte model: corpus in, model file out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from canton.errors import UserError, require
from canton.io.atomic import check_writable
from canton.text.checkpoint import ModelFile, check_replaceable, load_model, save_model
from canton.text.corpus import COUNTED_MOST, Batch, Corpus, Lanes
from canton.text.likelihood import bits_per_byte
from canton.text.model import Architecture, ByteModel, State
from canton.text.ngram.history import Reminded
from canton.text.ngram.table import Counts, count
from canton.text.progress import Progress, Watch
from canton.training.checkpoint import Checkpoint
from canton.training.curve import Curve
from canton.training.fabric import make_fabric
from canton.training.fit import Report, check_budget, fit

RECIPE: dict[str, Any] = {
    "batch": 32,
    "length": 32,
    "rate": 5e-3,
    "weight_decay": 0.01,
    "warm_up": 0.03,
    "clip": 0.25,
    "share": 0.9,
    "seed": 0,
}
"""The settings of a run that says nothing else."""

ARTICLE_RECIPE = {**RECIPE, "batch": 256, "length": 16, "rate": 1e-3, "weight_decay": 0.0}
"""The article's batch, length and rate; see `canton.text.ARTICLE`."""

HELD_OUT_MOST = 1 << 20
"""No more than this many held-out bytes are scored, so that a huge file does not cost an hour at the end."""


class Trained(NamedTuple):
    """What a run came to. finished is False if it was stopped; held_out is then None. curve: of its bits per
    byte.
    """

    model: ByteModel
    held_out: float | None
    held_out_bytes: int
    report: Report
    finished: bool
    curve: Curve


def train(
    out: Path,
    files: Sequence[Path] = (),
    *,
    steps: int | None = None,
    minutes: float | None = None,
    architecture: Architecture | None = None,
    batch: int | None = None,
    length: int | None = None,
    rate: float | None = None,
    weight_decay: float | None = None,
    warm_up: float | None = None,
    clip: float | None = None,
    share: float | None = None,
    seed: int | None = None,
    resume: bool = False,
    accelerator: str = "cpu",
    processes: int = 1,
    precision: str = "32-true",
    log: Path | None = None,
    show: Callable[[Progress], None] | None = None,
    show_seconds: float = 0.5,
    looks: int = 8,
    save_seconds: float = 60.0,
    clock: Callable[[], float] = time.monotonic,
) -> Trained | None:
    """Train a byte model on `files` and leave it in `out`; a run that stops early leaves there what it needs
    to go on.

    Settings left out are `RECIPE`'s, or, with `resume`, those of the run in `out`; so are files and budget. A
    run in `steps` that was interrupted, by Ctrl-C or a power cut, and resumed, ends with the bits of one that
    was not.

    Args:
        files: what to learn from; none for the text that lies in every Python.
        steps, minutes: the budget, one of the two.
        batch, length: lanes read side by side, over all processes, and bytes of each a step.
        rate: peak learning rate; warm_up, clip: see `canton.training.fit`.
        share: how much of the bytes is for training; the rest is held out for scoring.
        accelerator, processes, precision, log: see `canton.training.make_fabric`.
        show: is told how things are, every `show_seconds`, in process 0.
        looks: how many times on the way the model writes a sample and a part of the held-out bytes is scored.
        save_seconds: how often the run is saved.
        clock: see `canton.training.fit`.

    Returns: what it came to; None in processes other than the first.

    Raises: UserError for a file or setting that will not do, before anything is written.
    """
    require("safetensors", extra="text")
    check_writable(out)
    if out.exists() and not resume:
        check_replaceable(out)
    given = {
        "batch": batch, "length": length, "rate": rate, "weight_decay": weight_decay, "warm_up": warm_up,
        "clip": clip, "share": share, "seed": seed, "steps": steps, "minutes": minutes,
        "files": [str(file.resolve()) for file in files] or None,
    }  # fmt: skip
    checkpoint: Checkpoint | None = None
    if resume:
        held = _resumed(out, given, architecture)
        model, settings, checkpoint = held.model, dict(held.header["training"]), held.checkpoint
        digest, curve = str(held.header["corpus"]), Curve.from_json(held.header["curve"])
    else:
        settings = {**RECIPE, "files": [], **{k: v for k, v in given.items() if v is not None}}
        if steps is None and minutes is None:
            settings["minutes"] = 2.0
        settings = {"steps": None, "minutes": None, **settings}
        digest, curve = None, Curve()
    _check({**settings, "save_seconds": save_seconds})
    check_budget(settings["steps"], settings["minutes"])
    corpus = Corpus([Path(file) for file in settings["files"]], share=settings["share"])
    Lanes(
        corpus, batch=settings["batch"], length=settings["length"], world=max(processes, 1)
    )  # or an error, now
    fabric = make_fabric(
        accelerator=accelerator,
        processes=processes,
        precision=precision,
        log_dir=log,
    )
    fabric.launch()
    lanes = Lanes(
        corpus,
        batch=settings["batch"],
        length=settings["length"],
        seed=settings["seed"],
        rank=fabric.global_rank,
        world=fabric.world_size,
    )
    if not resume:
        with torch.random.fork_rng([]):
            torch.manual_seed(settings["seed"])
            model = ByteModel(architecture or Architecture())
    found = corpus.digest()
    if digest not in (None, found):
        raise UserError(f"{out} was being trained on other bytes than these: it cannot be resumed on them")
    began = clock()
    model.counts = _counted(model.architecture, corpus)
    header: dict[str, Any] = {
        "training": settings,
        "corpus": found,
        "corpus_files": corpus.names,
        "held_out_bits_per_byte": None,
        "held_out_bytes": None,
    }
    end = min(len(corpus), corpus.split + HELD_OUT_MOST)
    watch = Watch(model, corpus, settings, show, looks, fabric.log_dict, checkpoint, curve)
    report = fit(
        model,
        optimiser(model, rate=settings["rate"], weight_decay=settings["weight_decay"]),
        lanes if model.recall is None else Reminded(lanes, model.recall),
        next_byte_loss,
        fabric=fabric,
        steps=settings["steps"],
        minutes=_left(settings["minutes"], clock() - began),
        warmup=settings["warm_up"],
        grad_clip=settings["clip"],
        seed=settings["seed"],
        resume=checkpoint,
        on_checkpoint=lambda checkpoint: save_model(
            out, model, header | {"curve": curve.to_json()}, checkpoint
        ),
        checkpoint_every_s=save_seconds,
        on_report=watch,
        report_every_s=show_seconds,
        clock=clock,
    )
    if not fabric.is_global_zero:
        return None
    if model.counts is not None:
        model.counts.shares = None  # nobody reads the training part again
    if report.stopped:
        return Trained(model, None, 0, report, False, curve)
    try:
        held_out = bits_per_byte(model, corpus, corpus.split, end)
    except KeyboardInterrupt:  # `fit` has saved the run at its end
        return Trained(model, None, 0, report, False, curve)
    fabric.log_dict({"held_out_bits_per_byte": held_out}, report.step)
    for logger in fabric.loggers:
        logger.finalize("success")
    header |= {"held_out_bits_per_byte": held_out, "held_out_bytes": end - corpus.split}
    names = [Path(file).name for file in settings["files"]]  # where they lie is nobody else's business
    header["training"] = {
        **settings,
        "files": names,
        "steps_done": report.step,
        "seconds": round(report.seconds, 3),
    }
    curve.held_out.append((report.step, held_out))
    header["curve"] = curve.to_json()
    save_model(out, model, header)
    return Trained(model, held_out, end - corpus.split, report, True, curve)


def _counted(a: Architecture, corpus: Corpus) -> Counts | None:
    return count(corpus.read(0, min(corpus.split, COUNTED_MOST)), a.runs, a.rows) if a.runs else None


def _left(minutes: float | None, seconds: float) -> float | None:
    """What counting, which took `seconds`, leaves of the budget; a little for the layers in any case."""
    return None if minutes is None else max(minutes - seconds / 60, 0.1 * minutes)


def optimiser(model: nn.Module, *, rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2017, arXiv:1711.05101); only the weights of maps decay, not tables, biases
    or norms.
    """
    tables = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    maps = [p for p in model.parameters() if p.ndim > 1 and id(p) not in tables]
    rest = [p for p in model.parameters() if p.ndim <= 1 or id(p) in tables]
    groups = [{"params": maps, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True)


def next_byte_loss(model: nn.Module, batch: Batch, state: State | None) -> tuple[Tensor, State]:
    """Cross-entropy of the next byte, in nats a byte, and the state after the batch."""
    window = batch.window.long()
    logits, after = model(window[:-1], None if batch.fresh else state, batch.folds, batch.recent)
    return nn.functional.cross_entropy(logits.flatten(0, 1).float(), window[1:].flatten()), after


def _resumed(out: Path, given: dict[str, Any], architecture: Architecture | None) -> ModelFile:
    """The run in `out`; whatever was `given` must be what it was begun with."""
    held = load_model(out)
    if held.checkpoint is None:
        raise UserError(f"{out} is a finished model: there is nothing to resume")
    settings = held.header["training"]
    for name, value in given.items():
        if value is not None and settings.get(name) != value:
            raise UserError(
                f"{out} was begun with {name} {settings.get(name)}, not {value}: leave it out to resume"
            )
    if architecture not in (None, held.model.architecture):
        raise UserError(
            f"{out} was begun with {held.model.architecture}: leave the model's settings out to resume"
        )
    return held


def _check(settings: dict[str, Any]) -> None:
    for name in ("rate", "clip"):
        if not 0 < settings[name] < math.inf:
            raise UserError(f"{name} is {settings[name]}: it is a number above 0")
    for name, most in (("warm_up", 1), ("weight_decay", 1), ("save_seconds", math.inf), ("seed", 2**63 - 1)):
        if not 0 <= settings[name] <= most:
            raise UserError(f"{name} is {settings[name]}: it lies in [0, {most:g}]")
