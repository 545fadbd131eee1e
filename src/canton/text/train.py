"""Training of a byte model."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from canton.errors import UserError, require
from canton.io.atomic import check_writable
from canton.io.lock import lock_output
from canton.text.checkpoint import ModelFile, check_replaceable, load_model, save_model
from canton.text.config import Architecture, TrainConfig
from canton.text.corpus import BUILT_IN, Batch, ContiguousBatches, Corpus, counted_text
from canton.text.held_out import PART_WINDOWS, WINDOW, HeldOut, score_held_out
from canton.text.model import ByteModel, State
from canton.text.ngram.history import PrefetchedHistory
from canton.text.ngram.table import NgramTables, count_ngrams
from canton.text.progress import Progress, ProgressMonitor
from canton.training.curve import Curve
from canton.training.ema import EMA
from canton.training.fabric import make_fabric, world_size
from canton.training.fit import Report, fit
from canton.training.settings import check_resumable


class Trained(NamedTuple):
    """The result of a run.

    Attributes:
        model: the trained model.
        held_out: score on the held-out part; None if the run was stopped.
        report: the last report of the training loop.
        finished: False if the run was stopped.
        curve: bits per byte over the steps.
    """

    model: ByteModel
    held_out: HeldOut | None
    report: Report
    finished: bool
    curve: Curve


def train(
    config: TrainConfig | None = None,
    *,
    out: Path,
    files: Sequence[Path] = (),
    resume: bool = False,
    start: Path | None = None,
    log_dir: Path | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_message: Callable[[str], None] | None = None,
    progress_seconds: float = 0.5,
    clock: Callable[[], float] | None = None,
) -> Trained | None:
    """Train a byte model on `files` and write it to `out`.

    A run that is stopped by Ctrl-C or SIGTERM, or killed after a save, leaves a checkpoint in `out`. If its
    length is given in steps, the resumed run ends with the same bits as an uninterrupted one.

    Args:
        config: the settings. None: the defaults or, with `resume`, the settings of the run in `out`.
        out: the model file to write.
        files: files and folders to train on, and `-` for standard input, see `canton.text.sources.Sources`.
            None: Python's built-in language documentation.
        resume: continue the run in `out`, on the same files.
        start: model file whose weights the run starts from. `config.model` must be its architecture. The
            n-gram tables are counted anew, on `files`.
        log_dir: directory for TensorBoard logs.
        on_message: called with one line about the text, such as a file that is probably no text.
        on_progress: called every `progress_seconds`, in process 0.
        clock: returns seconds. None: the time, or processor time with `config.cpu_minutes`.

    Returns:
        The result; None in processes other than the first.

    Raises:
        UserError: a file or a setting is invalid. Nothing has been written.
    """
    require("safetensors", extra="text")
    check_writable(out)
    with lock_output(out) if int(os.environ.get("LOCAL_RANK", 0)) == 0 else nullcontext():
        if out.exists() and not resume:
            check_replaceable(out)
        paths = [str(file) if str(file) == "-" else str(file.resolve()) for file in files]
        saved = _load_run(out, config, paths) if resume else None
        if saved is not None:
            config = config or TrainConfig.from_header(saved.header)
            paths = [] if saved.header["corpus_files"] == [BUILT_IN] else saved.header["corpus_files"]
        config = config or TrainConfig()
        clock = clock or (time.monotonic if config.cpu_minutes is None else time.process_time)
        first = None if start is None else load_start(start, config.model, resume=resume)
        processes = world_size(config.processes)
        if processes > 1 and "-" in paths:
            raise UserError(f"files must not be - (standard input) with {processes} processes, got -")
        corpus = Corpus(
            [Path(path) for path in paths],
            train_fraction=config.train_fraction,
            glob=config.glob,
            field=config.field,
        )
        if on_message is not None:
            for hint in corpus.hints:
                on_message(hint)
        size, length = config.batch_size, config.sequence_length
        # raises an error before any process is launched
        ContiguousBatches(corpus, batch_size=size, sequence_length=length, world_size=processes)
        fabric = make_fabric(
            accelerator=config.device,
            processes=config.processes,
            precision=config.precision,
            log_dir=log_dir,
        )
        fabric.launch()
        batches = ContiguousBatches(
            corpus,
            batch_size=size,
            sequence_length=length,
            restart_bytes=config.restart_bytes,
            seed=config.seed,
            rank=fabric.global_rank,
            world_size=fabric.world_size,
        )
        digest = corpus.digest()
        if saved is None:
            with torch.random.fork_rng([]):
                torch.manual_seed(config.seed)
                model = first or ByteModel(config.model)
            curve = Curve()
        else:
            if saved.header["corpus"] != digest:
                raise UserError(f"files must be those that the run in {out} was started on, got others")
            model, curve = saved.model, Curve.from_json(saved.header.get("curve"))
        started = clock()
        checkpoint = None if saved is None else saved.checkpoint
        ema = EMA(model, config.ema_decay, checkpoint)  # copies the model: before the tables, which it shares
        averaged = ema.average.module
        assert isinstance(averaged, ByteModel)
        averaged.ngrams = model.ngrams = _count_ngrams(config.model, corpus, on_message)
        if first is not None and on_message is not None and fabric.is_global_zero:
            before = score_held_out(averaged, corpus)
            on_message(f"before training, {start}: {before.warm:.4f} bits per byte on the held-out part")
        header: dict[str, Any] = {
            "training": config.to_header()["training"],
            "corpus": digest,
            "corpus_files": corpus.names,
            "held_out_bits_per_byte": None,
            "held_out_cold_bits_per_byte": None,
            "held_out_bytes": None,
        }
        report = fit(
            model,
            make_optimizer(model, learning_rate=config.learning_rate, weight_decay=config.weight_decay),
            batches if model.history is None else PrefetchedHistory(batches, model.history),
            next_byte_loss,
            fabric=fabric,
            steps=config.steps,
            accumulate=config.accumulate,
            minutes=_remaining(config.budget_minutes, clock() - started),
            warmup=config.warmup,
            grad_clip=config.grad_clip,
            ema=ema,
            seed=config.seed,
            resume=checkpoint,
            on_checkpoint=lambda checkpoint: save_model(
                out, model, header | {"curve": curve.to_json()}, checkpoint
            ),
            checkpoint_every_s=config.save_seconds,
            on_report=ProgressMonitor(
                averaged, corpus, config, on_progress, fabric.log_dict, checkpoint, curve
            ),
            report_every_s=progress_seconds,
            clock=clock,
        )
        if not fabric.is_global_zero:
            return None
        if model.ngrams is not None:
            model.ngrams.fold_counts = None  # the training part is not read again
        if report.stopped:
            return Trained(model, None, report, False, curve)
        try:
            held_out = score_held_out(model, corpus)
            whole = held_out.bytes <= PART_WINDOWS * WINDOW
            part = held_out if whole else score_held_out(model, corpus, max_windows=PART_WINDOWS)
        except KeyboardInterrupt:  # `fit` has saved the run
            return Trained(model, None, report, False, curve)
        fabric.log_dict({"held_out_bits_per_byte": held_out.warm}, report.step)
        for logger in fabric.loggers:
            logger.finalize("success")
        curve.held_out.append((report.step, part.warm))
        header |= {
            "corpus_files": [Path(name).name for name in corpus.names] if paths else corpus.names,
            "held_out_bits_per_byte": held_out.warm,
            "held_out_cold_bits_per_byte": held_out.cold,
            "held_out_bytes": held_out.bytes,
            "rollbacks": report.rollbacks,
            "curve": curve.to_json(),
            "steps_done": report.step,
            "training_seconds": round(report.seconds, 3),
        }
        save_model(out, model, header)
        return Trained(model, held_out, report, True, curve)


def load_start(path: Path, architecture: Architecture, *, resume: bool = False) -> ByteModel:
    """Return the model of a file to start from, without its n-gram tables.

    Raises:
        UserError: it has another architecture, or a run is resumed.
    """
    if resume:
        raise UserError(f"start must be omitted with resume, got {path}: the run has started")
    model = load_model(path).model
    if model.architecture != architecture:
        raise UserError(f"the architecture must be that of {path}, {model.architecture}, got {architecture}")
    model.ngrams = None
    return model


def _load_run(out: Path, config: TrainConfig | None, paths: Sequence[str]) -> ModelFile:
    """Return the run in `out`, whose settings and files must be those given."""
    saved = load_model(out)
    if saved.checkpoint is None:
        raise UserError(f"resume must be used with an unfinished run, got {out}, a finished model")
    try:
        started = TrainConfig.from_header(saved.header)
        for name in ("corpus", "corpus_files"):
            if name not in saved.header:
                raise UserError(f"the header has no {name}")
        saved.checkpoint.check_carried(saved.model.initial_state(1), rows=(started.batch_size,))
    except UserError as error:
        raise UserError(f"cannot resume {out}: {error}") from error
    if config is not None:
        check_resumable(started, config)
    if paths and list(paths) != saved.header["corpus_files"]:
        raise UserError(
            f"files must be {', '.join(saved.header['corpus_files'])}, as in the run in {out}, got "
            f"{', '.join(paths)}: omit them"
        )
    return saved


def _count_ngrams(
    architecture: Architecture, corpus: Corpus, on_message: Callable[[str], None] | None
) -> NgramTables | None:
    kinds = architecture.ngram_kinds
    if not kinds:
        return None
    text = counted_text(corpus)
    if on_message is not None and corpus.split >= 1 << 20:
        share = "" if len(text) == corpus.split else f", a sample of {len(text) / corpus.split:.0%},"
        on_message(f"counting n-grams in {len(text) / 1e6:.1f} MB of text{share} for {len(kinds)} tables")
    return count_ngrams(text, kinds, architecture.ngram_rows)


def _remaining(minutes: float | None, seconds: float) -> float | None:
    """Return the budget less the `seconds` spent on counting, but at least a tenth of it."""
    return None if minutes is None else max(minutes - seconds / 60, 0.1 * minutes)


def make_optimizer(model: nn.Module, *, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """Return AdamW (Loshchilov & Hutter 2017, arXiv:1711.05101) for a byte model.

    Only the matrices of layers decay, not embeddings, biases or norms.
    """
    tables = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    matrices = [p for p in model.parameters() if p.ndim > 1 and id(p) not in tables]
    rest = [p for p in model.parameters() if p.ndim <= 1 or id(p) in tables]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98), fused=True)


def next_byte_loss(model: nn.Module, batch: Batch, state: State | None) -> tuple[Tensor, State]:
    """Return the cross-entropy of the next byte, in nats per byte, and the state after the batch."""
    window = batch.window.long()
    before = None if batch.state_reset else state
    logits, after = model(window[:-1], before, batch.folds, batch.history, batch.starts)
    return nn.functional.cross_entropy(logits.flatten(0, 1).float(), window[1:].flatten()), after
