"""The command `canton track evaluate`."""

from __future__ import annotations

import json as json_module
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from canton.errors import UserError

if TYPE_CHECKING:
    from canton.track.data.dataset import Footage


def evaluate(
    footage: Annotated[Path, typer.Option(help="Folder of annotated clips.")],
    model: Annotated[
        Path | None,
        typer.Argument(
            help="Model file, or pretrained model (visible, infrared). Default: infrared if the clips are "
            "gray, else visible."
        ),
    ] = None,
    split: Annotated[
        str, typer.Option(help="Split of the folder's splits.csv, such as train, val or test.")
    ] = "test",
    modality: Annotated[str | None, typer.Option(help="Use clips of this modality only, such as IR.")] = None,
    target_class: Annotated[
        str | None, typer.Option(help="Class to detect (default: the model's own).")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Detection threshold, 0.05-1 (default: the model's own).")
    ] = None,
    fps: Annotated[float | None, typer.Option(help="Frames per second (default: the training rate).")] = None,
    every: Annotated[int, typer.Option(help="Evaluate every N-th window of 12 frames.")] = 1,
    json: Annotated[
        Path | None, typer.Option(help="Write all figures as JSON to this file; -: standard output.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Plot recall by frame (png, svg or pdf).")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Evaluate a model on annotated footage."""
    from canton.cli.console.training_bar import TrainingBar
    from canton.cli.models import VISIBLE, open_model
    from canton.cli.outputs import check_outputs
    from canton.io.atomic import atomic_write
    from canton.track.checkpoint import load_model
    from canton.track.data.dataset import Footage
    from canton.track.data.formats.labels import normalise_class
    from canton.track.data.frame_cache import cache_frames, clip_problems
    from canton.track.evaluate import evaluate
    from canton.training.curve import check_plot

    check_outputs({"json": json, "plot": plot}, inputs=[str(model)] if model else [])
    if plot is not None:
        check_plot(plot)
    if fps is not None and not 0 < fps < math.inf:
        raise UserError(f"--fps must be positive and finite, got {fps}")
    if every < 1:
        raise UserError(f"--every must be >= 1, got {every}")
    if threshold is not None and not 0.05 <= threshold <= 1:
        raise UserError(f"--threshold must be in [0.05, 1], got {threshold}")
    clips = Footage(footage, split=split, modality=modality)
    if not len(clips):
        raise UserError(f"{footage} has no {split} clips" + (f" of modality {modality}" if modality else ""))
    name = _pretrained(clips) if model is None else str(model)
    loaded = open_model(Path(name), VISIBLE, load_model)
    training = loaded.header["training"]
    rate = fps or float(training["fps"])
    class_name = normalise_class(target_class or str(training["target_class"]))
    if target_class:
        clips.check_labelled(class_name)
    with TrainingBar(quiet=quiet) as bar:
        cached = cache_frames(
            list(clips), fps=rate, width=int(training["width"]), on_decode=bar.show_decoding
        )
        for line in clip_problems(cached):
            bar.warn(line)
    figures = evaluate(
        loaded.model,
        cached,
        threshold=threshold or float(loaded.header["threshold"]),
        target_class=class_name,
        fps=rate,
        every=every,
    )
    figures = {"model": name, "split": split, "modality": modality, **figures}
    _show(figures, err=str(json) == "-")
    if str(json) == "-":
        typer.echo(json_module.dumps(figures, indent=1))
    elif json is not None:
        with atomic_write(json) as file:
            file.write(json_module.dumps(figures, indent=1).encode())
    if plot is not None:
        from canton.track.render.plots import plot_recall

        plot_recall(plot, {name: figures[name]["recall_by_frame"] for name in ("clean", "hard")}, rate)


def _pretrained(clips: Footage) -> str:
    """Return the name of the pretrained model for these clips.

    Raises:
        UserError: some clips have colour and some are gray.
    """
    from canton.cli.models import pretrained_for
    from canton.track.video.reader import open_video

    names = set()
    for clip in clips:
        with open_video(clip.path) as video:
            names.add(pretrained_for(has_colour=video.has_colour))
    if len(names) > 1:
        raise UserError(
            "clips must be all in colour or all gray to choose a pretrained model, got both: name a model "
            "(visible, infrared), or use --modality"
        )
    return names.pop()


def _show(figures: dict[str, Any], *, err: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    class_name = figures["target_class"]
    table = Table(title=f"{figures['clips']} clips, threshold {figures['threshold']}", title_justify="left")
    rows = [
        ("F1", "f1"),
        ("precision", "precision"),
        ("recall", "recall"),
        ("average precision", "average_precision"),
        ("F1 of boxes, IoU 0.5", "box_f1"),
        ("false alarms per frame", "false_alarms_per_frame"),
    ]
    table.add_column("", no_wrap=True)
    for name in ("clean", "hard"):
        table.add_column(f"{class_name} clips\n{name}", justify="right")
        table.add_column(f"all clips\n{name}", justify="right")
    for label, key in rows:
        cells = [f"{figures[name][part][key]:.3f}" for name in ("clean", "hard") for part in ("own", "all")]
        table.add_row(label, *cells)
    console = Console(stderr=err)
    console.print(table)
    for name in ("clean", "hard"):
        part = figures[name]
        curve = " ".join(f"{value:.2f}" for value in part["recall_by_frame"])
        per_minute = part["false_alarms_per_minute"]
        alarms = f"false alarms per minute unknown (every clip shows a {class_name})"
        if per_minute is not None:
            alarms = f"{per_minute:.1f} false alarms per minute of clips without a {class_name}"
        first = _first_detection(part["seconds_to_first"], part["never_found"])
        console.print(
            f"{name}: {first}, {alarms}; recall by frame {curve}",
            soft_wrap=True,
            highlight=False,
        )
    if short := figures["too_short"]:
        clips = "1 clip" if len(short) == 1 else f"{len(short)} clips"
        line = f"skipped: {clips} shorter than a window, such as {short[0]}"
        console.print(line, soft_wrap=True, markup=False, highlight=False)


def _first_detection(seconds: float | None, never: float | None) -> str:
    if never is None:
        return "no window starts with a target"
    if seconds is None:
        return f"no detection in {never:.0%} of the windows"
    return f"first detection after {seconds:.1f} s (median; never in {never:.1%} of the windows)"
