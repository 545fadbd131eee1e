"""Arguments and the training run that the training benchmarks of `canton track` share.

On a CPU, MINUTES is processor time on one thread. On a GPU it is wall time, in float32. Worker processes and
decoding of clips are not counted. The evaluation afterwards runs in float32 on the CPU.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from canton.track import Architecture, TrainConfig, load_model, train
from canton.track.train import Progress, Trained

SETTINGS = {
    "batch_size": int,
    "frames_per_step": int,
    "tbptt_chunks": int,
    "seed": int,
    "learning_rate": float,
}
"""Settings that default to those of `TrainConfig`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that these benchmarks share."""
    parser.add_argument("minutes", type=float)
    parser.add_argument("out", type=Path)
    for name, kind in SETTINGS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, help="default: that of TrainConfig")
    parser.add_argument("--single-frame-steps", type=int, default=0, help="steps at the start")
    parser.add_argument("--start", type=Path, help="finished model to fine-tune")
    parser.add_argument("--workers", type=int, default=1, help="processes that prepare windows")
    parser.add_argument("--accelerator", default="cpu")


def initial_architecture(a: argparse.Namespace) -> Architecture:
    """Return the network of --start, or a new one."""
    return load_model(a.start).model.architecture if a.start else Architecture()


def flags(a: argparse.Namespace) -> Iterator[str]:
    """Yield the arguments that differ from the defaults, in command-line form."""
    for name in ("single_frame_steps", *SETTINGS):
        if value := getattr(a, name):
            yield f"--{name.replace('_', '-')} {value}"
    if a.start:
        yield f"--start {a.start.name}"
    if a.workers != 1:
        yield f"--workers {a.workers}"
    if a.accelerator != "cpu":
        yield f"--accelerator {a.accelerator}"


def machine(a: argparse.Namespace) -> str:
    """Return the name of the machine that trains."""
    on_cpu = a.accelerator == "cpu"
    return f"{platform.machine()}, 1 thread" if on_cpu else torch.cuda.get_device_name()


def run_training(
    a: argparse.Namespace,
    out: Path,
    architecture: Architecture,
    *,
    precision: str = "32-true",
    footage: Path | None = None,
    modality: str | None = None,
    scene_kind: str | None = None,
) -> Trained:
    """Train with the arguments `a`. `precision` applies on a CPU.

    Raises:
        SystemExit: the run was stopped.
    """
    torch.set_num_threads(1)
    on_cpu = a.accelerator == "cpu"
    given = {name: getattr(a, name) for name in SETTINGS if getattr(a, name) is not None}
    config = TrainConfig(
        footage=footage,
        shared_val=True,
        modality=modality,
        scenes=scene_kind is not None,
        scene_kind=scene_kind,
        model=architecture,
        start=a.start,
        minutes=a.minutes,
        single_frame_steps=a.single_frame_steps,
        workers=a.workers,
        device=a.accelerator,
        precision=precision if on_cpu else "32-true",
        **given,
    )
    trained = train(
        config,
        out=out,
        clock=time.process_time if on_cpu else time.monotonic,
        on_progress=print_progress,
        progress_seconds=20.0,
    )
    assert trained is not None
    if not trained.finished:
        raise SystemExit(f"stopped at step {trained.report.step}: no results")
    return trained


def print_progress(now: Progress) -> None:
    """Print one line of progress."""
    print(f"{now.fraction:4.0%}  step {now.step}  loss {now.loss:.3f}", flush=True)
