"""What the benchmarks of `canton track` that train have in common: where, and for how long.

On a processor MINUTES are the processor's, on one thread; on a GPU they are the clock's, in float32. The
processes that prepare windows are not counted, nor is decoding clips. What is measured afterwards is in
float32, on the processor.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from canton.track import Architecture, load_model, train
from canton.track.train import Progress, Trained

BY_RECIPE = ("batch", "length", "pieces", "seed")
"""Settings that are the recipe's where nothing is said."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What every such benchmark may be told."""
    parser.add_argument("minutes", type=float)
    parser.add_argument("out", type=Path)
    for name in BY_RECIPE:
        parser.add_argument(f"--{name}", type=int, help="the recipe's, if left out")
    parser.add_argument("--singles", type=int, default=0, help="blocks, at first, of single frames")
    parser.add_argument("--rate", type=float, help="peak learning rate; the recipe's, if left out")
    parser.add_argument("--start", type=Path, help="a finished model to learn on from")
    parser.add_argument("--workers", type=int, default=1, help="processes that prepare windows")
    parser.add_argument("--accelerator", default="cpu")


def begun(a: argparse.Namespace) -> Architecture:
    """The network of --start, or a new one."""
    return load_model(a.start).model.architecture if a.start else Architecture()


def flags(a: argparse.Namespace) -> Iterator[str]:
    """What was asked for beside the defaults, as one types it."""
    for name in ("singles", *BY_RECIPE, "rate"):
        if value := getattr(a, name):
            yield f"--{name} {value}"
    if a.start:
        yield f"--start {a.start.name}"
    if a.workers != 1:
        yield f"--workers {a.workers}"
    if a.accelerator != "cpu":
        yield f"--accelerator {a.accelerator}"


def machine(a: argparse.Namespace) -> str:
    """What it learned on."""
    on_processor = a.accelerator == "cpu"
    return f"{platform.machine()}, 1 thread" if on_processor else torch.cuda.get_device_name()


def learn(
    a: argparse.Namespace,
    out: Path,
    architecture: Architecture,
    *,
    precision: str = "32-true",
    footage: Path | None = None,
    modality: str | None = None,
    scene_kind: str | None = None,
) -> Trained:
    """Train as the arguments `a` say; precision: on a processor.

    Raises: SystemExit if the run was stopped: nothing is to be measured then.
    """
    torch.set_num_threads(1)
    on_processor = a.accelerator == "cpu"
    trained = train(
        out,
        footage=footage,
        modality=modality,
        scenes=scene_kind is not None,
        scene_kind=scene_kind,
        architecture=architecture,
        start=a.start,
        minutes=a.minutes,
        batch=a.batch,
        length=a.length,
        pieces=a.pieces,
        singles=a.singles,
        rate=a.rate,
        seed=a.seed,
        workers=a.workers,
        accelerator=a.accelerator,
        precision=precision if on_processor else "32-true",
        clock=time.process_time if on_processor else time.monotonic,
        show=say,
        show_seconds=20.0,
    )
    assert trained is not None
    if not trained.finished:
        raise SystemExit(f"stopped at step {trained.report.step}: nothing is measured")
    return trained


def say(now: Progress) -> None:
    print(f"{now.fraction:4.0%}  step {now.step}  loss {now.loss:.3f}", flush=True)
