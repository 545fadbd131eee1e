"""The command `canton track evaluate`."""

from __future__ import annotations

import json as json_module
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from canton.errors import UserError

if TYPE_CHECKING:
    from canton.cli.console.training_bar import TrainingBar
    from canton.track.checkpoint import ModelFile
    from canton.track.data.dataset import Clip, Footage

ROWS = (
    ("clips", "clips", "d"),
    ("F1", "f1", ".3f"),
    ("precision", "precision", ".3f"),
    ("recall", "recall", ".3f"),
    ("F1 of boxes, IoU 0.5", "box_f1", ".3f"),
    ("average precision", "average_precision", ".3f"),
    ("F1, mean of clips", "macro_f1", ".3f"),
    ("IDF1", "idf1", ".3f"),
    ("HOTA", "hota", ".3f"),
    ("id switches", "id_switches", "d"),
    ("clips with a hit", "found", ".1%"),
    ("first hit, s (median)", "seconds_to_first", ".2f"),
    ("false tracks, moving", "false_tracks_moving", "d"),
    ("false tracks, still", "false_tracks_still", "d"),
    ("frames with a still false track", "still_false_frames", ".1%"),
    ("false alarms per minute", "false_alarms_per_minute", ".1f"),
    ("false boxes per frame", "false_boxes_per_frame", ".3f"),
)
"""Label, key and format of the table's rows; see `canton.track.evaluate.summarise`."""
COLUMNS = 6
"""Largest number of kinds or groups side by side."""


def evaluate(
    footage: Annotated[Path, typer.Option(help="Folder of annotated clips.")],
    model: Annotated[
        Path | None,
        typer.Argument(
            help="Model file, or pretrained model (visible, infrared). Default, clip by clip: infrared if "
            "it is gray, else visible."
        ),
    ] = None,
    split: Annotated[
        str, typer.Option(help="Split of the folder's splits.csv, such as train, val or test.")
    ] = "test",
    split_column: Annotated[
        str | None,
        typer.Option(help="Column of splits.csv that names the split (default: split_scene, else split)."),
    ] = None,
    modality: Annotated[str | None, typer.Option(help="Use clips of this modality only, such as IR.")] = None,
    target_class: Annotated[
        str | None,
        typer.Option(help="Class to detect; any: every class (default: the model's own)."),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Detection threshold, 0.05-1 (default: the model's own).")
    ] = None,
    group_by: Annotated[
        list[str] | None,
        typer.Option(
            help="Column of splits.csv, such as distance: print figures for each of its values. May be "
            "repeated."
        ),
    ] = None,
    every_clip: Annotated[int, typer.Option(help="Use every N-th clip of each kind, by name.")] = 1,
    windows: Annotated[
        bool,
        typer.Option(
            "--windows",
            help="Analysis instead: windows of 12 frames from an empty state, recall by frames seen, and "
            "degraded frames.",
        ),
    ] = False,
    fps: Annotated[
        float | None,
        typer.Option(help="Frames per second of the windows (default: the training rate)."),
    ] = None,
    every: Annotated[int | None, typer.Option(help="Use every N-th window (default: 1).")] = None,
    json: Annotated[
        Path | None, typer.Option(help="Write all figures as JSON to this file; -: standard output.")
    ] = None,
    points: Annotated[
        Path | None,
        typer.Option(help="Write the tracks' centres as JSON: {clip: [[frame, x, y, score], ...]}."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Plot recall by frames seen (png, svg or pdf), with --windows.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Evaluate a model on annotated footage: what watch prints, over whole clips."""
    from canton.cli.console.training_bar import TrainingBar
    from canton.cli.outputs import check_outputs
    from canton.io.atomic import atomic_write
    from canton.track.data.dataset import Footage
    from canton.training.curve import check_plot

    outputs = {"json": json, "plot": plot, "points": points}
    check_outputs(outputs, inputs=[str(model)] if model else [])
    _check(threshold, fps, every, every_clip)
    for option, given in (("fps", fps is not None), ("every", every is not None), ("plot", plot is not None)):
        if given and not windows:
            raise UserError(f"--{option} has no effect without --windows: omit it, or add --windows")
    for option, given in (("group-by", bool(group_by)), ("points", points is not None)):
        if given and windows:
            raise UserError(f"--{option} has no effect with --windows: omit one of them")
    if plot is not None:
        check_plot(plot)
    clips = Footage(footage, split=split, modality=modality, split_column=split_column)
    if not len(clips):
        raise UserError(f"{footage} has no {split} clips" + (f" of modality {modality}" if modality else ""))
    clips.check()
    chosen = _every_clip(clips, every_clip)
    with TrainingBar(quiet=quiet) as bar:
        if windows:
            figures = _evaluate_windows(
                clips, chosen, model, bar, target_class, threshold=threshold, fps=fps, every=every or 1
            )
        else:
            figures, found = _evaluate_clips(
                clips, chosen, model, bar, target_class, threshold, group_by or []
            )
    figures = {"split": split, "modality": modality, "every_clip": every_clip, **figures}
    show = _show_windows if windows else _show
    show(figures, err=str(json) == "-")
    if str(json) == "-":
        typer.echo(json_module.dumps(figures, indent=1))
    elif json is not None:
        with atomic_write(json) as file:
            file.write(json_module.dumps(figures, indent=1).encode())
    if points is not None:
        with atomic_write(points) as file:
            file.write(json_module.dumps(found).encode())
    if plot is not None:
        from canton.track.render.plots import plot_recall

        curves = {name: figures[name]["recall_by_frame"] for name in ("clean", "hard")}
        plot_recall(plot, curves, figures["fps"])


def _check(threshold: float | None, fps: float | None, every: int | None, every_clip: int) -> None:
    if fps is not None and not 0 < fps < math.inf:
        raise UserError(f"--fps must be positive and finite, got {fps}")
    for option, number in (("every", 1 if every is None else every), ("every-clip", every_clip)):
        if number < 1:
            raise UserError(f"--{option} must be >= 1, got {number}")
    if threshold is not None and not 0.05 <= threshold <= 1:
        raise UserError(f"--threshold must be in [0.05, 1], got {threshold}")


def _every_clip(clips: Footage, every: int) -> list[Clip]:
    """Return every n-th clip of each class, by name."""
    chosen = []
    seen: dict[str, int] = {}
    for clip in clips:
        count = seen[clip.class_name] = seen.get(clip.class_name, -1) + 1
        if count % every == 0:
            chosen.append(clip)
    return chosen


def _evaluate_clips(
    footage: Footage,
    clips: list[Clip],
    model: Path | None,
    bar: TrainingBar,
    target_class: str | None,
    threshold: float | None,
    group_by: list[str],
) -> tuple[dict[str, Any], dict[str, list[list[float]]]]:
    from canton.track.checkpoint import training_setting
    from canton.track.evaluate import evaluate, points, watch_clip

    known = sorted({name for clip in clips for name in clip.columns})
    for column in group_by:
        if column not in known:
            raise UserError(
                f"--group-by must be a column of splits.csv ({', '.join(known) or 'none'}), got {column!r}"
            )
    loaded: dict[str, ModelFile] = {}
    names = {clip.name: _pretrained(clip) if model is None else str(model) for clip in clips}
    results = []
    class_names = set()
    for k, clip in enumerate(clips):
        name = names[clip.name]
        if name not in loaded:
            loaded[name] = _load(name)
            class_names.add(_target_class(footage, loaded[name], target_class))
            loaded[name].model.eval()
        header = loaded[name].header
        found = watch_clip(
            loaded[name].model,
            clip,
            threshold=threshold or float(header.get("threshold", 0.5)),
            width=training_setting(loaded[name], "width") or None,
        )
        if found.problem is not None:
            bar.warn(f"{found.problem}; the frames before are used")
        results.append(found)
        bar.show_decoding(k + 1, len(clips))
    if len(class_names) > 1:
        raise UserError(
            "--target-class must be given: the models detect " + " and ".join(sorted(class_names))
        )
    (class_name,) = class_names
    settings = {
        name: {"threshold": threshold or float(file.header.get("threshold", 0.5))}
        for name, file in loaded.items()
    }
    figures = evaluate(results, target_class=class_name, group_by=group_by)
    return {"models": settings, "target_class": class_name, **figures}, points(results)


def _evaluate_windows(
    footage: Footage,
    clips: list[Clip],
    model: Path | None,
    bar: TrainingBar,
    target_class: str | None,
    *,
    threshold: float | None,
    fps: float | None,
    every: int,
) -> dict[str, Any]:
    from canton.track.checkpoint import training_setting
    from canton.track.data.frame_cache import cache_frames, clip_problems
    from canton.track.window_analysis import evaluate_windows

    names = {_pretrained(clip) for clip in clips} if model is None else {str(model)}
    if len(names) > 1:
        raise UserError(
            "clips must be all in colour or all gray to choose a pretrained model, got both: name a model "
            "(visible, infrared), or use --modality"
        )
    (name,) = names
    loaded = _load(name)
    rate = fps or float(training_setting(loaded, "fps"))
    class_name = _target_class(footage, loaded, target_class)
    cached = cache_frames(
        clips, fps=rate, width=training_setting(loaded, "width"), on_decode=bar.show_decoding
    )
    for line in clip_problems(cached):
        bar.warn(line)
    figures = evaluate_windows(
        loaded.model,
        cached,
        threshold=threshold or float(loaded.header.get("threshold", 0.5)),
        target_class=class_name,
        fps=rate,
        every=every,
    )
    return {"model": name, **figures}


def _load(name: str) -> ModelFile:
    from canton.cli.models import VISIBLE, open_model
    from canton.track.checkpoint import load_model

    return open_model(Path(name), VISIBLE, load_model)


def _target_class(footage: Footage, loaded: ModelFile, given: str | None) -> str:
    """Return the class to detect; check that a box has it, if it is given or there are boxes."""
    from canton.track.checkpoint import training_setting
    from canton.track.data.formats.labels import normalise_class
    from canton.track.metrics import ANY

    class_name = normalise_class(given or training_setting(loaded, "target_class"))
    if class_name != ANY and (given or any(clip.boxes_by_frame for clip in footage)):
        footage.check_labelled(class_name)
    return class_name


def _pretrained(clip: Clip) -> str:
    """Return the name of the pretrained model for a clip."""
    from canton.cli.models import pretrained_for
    from canton.track.video.reader import open_video

    with open_video(clip.path) as video:
        return pretrained_for(has_colour=video.has_colour)


def _show(figures: dict[str, Any], *, err: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(stderr=err)
    thresholds = ", ".join(f"{name} (threshold {v['threshold']})" for name, v in figures["models"].items())
    title = f"{figures['all']['clips']} whole clips, {figures['target_class']}, {thresholds}"
    parts = {title: {"all": figures["all"], **figures["kinds"]}}
    parts.update((f"by {column}", rows) for column, rows in figures["groups"].items())
    for name, rows in parts.items():
        table = Table(title=name, title_justify="left")
        table.add_column("", no_wrap=True)
        shown = list(rows.items())[: COLUMNS + 1]
        for head, _ in shown:
            table.add_column(head, justify="right")
        for label, key, form in ROWS:
            cells = ["-" if row[key] is None else format(row[key], form) for _, row in shown]
            table.add_row(label, *cells)
        console.print(table)
        if len(rows) > len(shown):
            console.print(f"{len(rows) - len(shown)} more columns: see --json", highlight=False)


def _show_windows(figures: dict[str, Any], *, err: bool) -> None:
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
