"""`canton track evaluate`."""

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
    footage: Annotated[Path, typer.Option(help="A folder of annotated clips.")],
    model: Annotated[
        Path | None,
        typer.Argument(
            help="A model file, or one of those that ship: visible, infrared; left out: as the clips are."
        ),
    ] = None,
    split: Annotated[
        str, typer.Option(help="train, val or test, as the folder's splits.csv has it.")
    ] = "test",
    modality: Annotated[str | None, typer.Option(help="Footage of this kind alone, such as IR.")] = None,
    target_class: Annotated[
        str | None, typer.Option(help="The kind of thing to find; none: the model's own.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Heat that is believed; none: the model's own.")
    ] = None,
    fps: Annotated[float | None, typer.Option(help="Frames a second; none: as the model learned.")] = None,
    every: Annotated[int, typer.Option(help="Evaluate every N-th window of 12 frames.")] = 1,
    json: Annotated[
        Path | None, typer.Option(help="Write all figures to this file; -: to standard output.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw recall over frames seen (png, svg or pdf).")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show nothing on the way.")] = False,
) -> None:
    """Measure how well MODEL finds what it seeks."""
    from canton.cli.console.training_bar import TrainingBar
    from canton.cli.models import VISIBLE, open_model
    from canton.cli.outputs import check_outputs
    from canton.io.atomic import atomic_write
    from canton.track.checkpoint import load_model
    from canton.track.data.dataset import Footage
    from canton.track.data.frame_cache import cache_frames, clip_problems
    from canton.track.data.labels import normalise_class
    from canton.track.evaluate import evaluate
    from canton.training.curve import check_plot

    check_outputs({"json": json, "plot": plot}, inputs=[str(model)] if model else [])
    if plot is not None:
        check_plot(plot)
    if fps is not None and not 0 < fps < math.inf:
        raise UserError(f"fps is {fps}: it is a number above 0")
    if every < 1:
        raise UserError(f"every is {every}: it is a whole number of at least 1")
    if threshold is not None and not 0.05 <= threshold <= 1:
        raise UserError(f"threshold is {threshold}: it lies between 0.05 and 1")
    clips = Footage(footage, split=split, modality=modality)
    if not len(clips):
        raise UserError(f"{footage} has no {split} clips" + (f" of modality {modality}" if modality else ""))
    named = _light(clips) if model is None else str(model)
    held = open_model(Path(named), VISIBLE, load_model)
    training = held.header["training"]
    rate = fps or float(training["fps"])
    kind = normalise_class(target_class or str(training["target_class"]))
    if target_class:
        clips.check_labelled(kind)
    with TrainingBar(quiet=quiet) as bar:
        stored = cache_frames(list(clips), fps=rate, width=int(training["width"]), show=bar.show_decoding)
        for line in clip_problems(stored):
            bar.warn(line)
    figures = evaluate(
        held.model,
        stored,
        threshold=threshold or float(held.header["threshold"]),
        target_class=kind,
        fps=rate,
        every=every,
    )
    figures = {"model": named, "split": split, "modality": modality, **figures}
    _show(figures, err=str(json) == "-")
    if str(json) == "-":
        typer.echo(json_module.dumps(figures, indent=1))
    elif json is not None:
        with atomic_write(json) as file:
            file.write(json_module.dumps(figures, indent=1).encode())
    if plot is not None:
        from canton.track.render.plots import plot_recall

        plot_recall(plot, {name: figures[name]["recall_by_frame"] for name in ("clean", "hard")}, rate)


def _light(clips: Footage) -> str:
    """Which of the models that ship is for these clips.

    Raises: UserError if they are of both kinds.
    """
    from canton.cli.models import light
    from canton.track.video.reader import open_video

    fitting = set()
    for clip in clips:
        with open_video(clip.path) as video:
            fitting.add(light(coloured=video.has_colour))
    if len(fitting) > 1:
        raise UserError(
            "some of the clips have colours and some have none, and a model ships for each: name one "
            "(visible, infrared), or the clips' --modality"
        )
    return fitting.pop()


def _show(figures: dict[str, Any], *, err: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    kind = figures["target_class"]
    table = Table(title=f"{figures['clips']} clips, threshold {figures['threshold']}", title_justify="left")
    rows = [
        ("F1", "f1"),
        ("precision", "precision"),
        ("recall", "recall"),
        ("average precision", "average_precision"),
        ("F1 of boxes, IoU 0.5", "box_f1"),
        ("false alarms a frame", "false_alarms_per_frame"),
    ]
    table.add_column("", no_wrap=True)
    for name in ("clean", "hard"):
        table.add_column(f"{kind} clips\n{name}", justify="right")
        table.add_column(f"all clips\n{name}", justify="right")
    for label, key in rows:
        cells = [f"{figures[name][part][key]:.3f}" for name in ("clean", "hard") for part in ("own", "all")]
        table.add_row(label, *cells)
    console = Console(stderr=err)
    console.print(table)
    for name in ("clean", "hard"):
        part = figures[name]
        curve = " ".join(f"{value:.2f}" for value in part["recall_by_frame"])
        strays = part["false_alarms_per_minute"]
        alarms = "false alarms unknown: it is in every clip"
        if strays is not None:
            alarms = f"{strays:.1f} false alarms a minute without it"
        console.print(
            f"{name}: {_first(part['seconds_to_first'], part['never_found'])}, {alarms}; recall by frames "
            f"seen {curve}",
            soft_wrap=True,
            highlight=False,
        )
    if short := figures["too_short"]:
        clips = "1 clip" if len(short) == 1 else f"{len(short)} clips"
        line = f"left out: {clips} shorter than a window, such as {short[0]}"
        console.print(line, soft_wrap=True, markup=False, highlight=False)


def _first(seconds: float | None, never: float | None) -> str:
    if never is None:
        return "nothing in sight when a window begins"
    if seconds is None:
        return f"not found at all in {never:.0%} of the windows"
    return f"first found after {seconds:.1f} s (median; never in {never:.1%} of the windows)"
