"""The command `canton track labels`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from canton.errors import UserError


def labels(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IN",
            help="Label file or folder: csv, mot, coco, yolo, voc, cvat, antiuav, tracknet, visdrone or "
            "labelstudio.",
        ),
    ],
    to: Annotated[str, typer.Option(help="Format to write: csv, mot or coco.")],
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
    source_format: Annotated[
        str | None, typer.Option("--from", help="Format of IN (default: from its content).")
    ] = None,
    clip: Annotated[
        str, typer.Option(help="Name of the clip, for a format of one clip (default: the file's name).")
    ] = "",
    class_name: Annotated[
        str, typer.Option(help="Class of every object, for a format without classes (default: none).")
    ] = "",
    names: Annotated[
        str, typer.Option(help="Classes by number, such as drone,bird (default: classes.txt beside IN).")
    ] = "",
    size: Annotated[
        str | None, typer.Option(help="Size of the frames, such as 640x512, for relative values.")
    ] = None,
    first_frame: Annotated[
        int, typer.Option(help="Number of the first frame in file names and TrackNet rows.")
    ] = 0,
    every: Annotated[
        int | None, typer.Option(help="Only every N-th frame is labelled (default: as the format says).")
    ] = None,
    labelled: Annotated[
        str | None,
        typer.Option(help="Labelled frames, such as '0-99 150-199' (default: as the format says)."),
    ] = None,
    interpolate: Annotated[
        str | None,
        typer.Option(help="Fill the frames between key frames: linear or quadratic (default: do not)."),
    ] = None,
    max_gap: Annotated[int, typer.Option(help="Longest gap to fill, in frames.")] = 30,
    split: Annotated[str, typer.Option(help="Split of the clips, such as train (default: none).")] = "",
    append: Annotated[
        bool,
        typer.Option(
            "--append", help="Keep the other clips of OUT/labels.csv. Clips of the same name are replaced."
        ),
    ] = False,
) -> None:
    """Convert labels of videos. Wrong labels are reported with their file and line."""
    from canton.track.data.formats.interpolate import interpolate as fill
    from canton.track.data.formats.labels import LabelledFrames, ReadSettings
    from canton.track.data.formats.registry import FORMATS, read_labels

    written = FORMATS.get(to)
    if written is None or written.write is None:
        writable = ", ".join(name for name, each in FORMATS.items() if each.write)
        raise UserError(f"--to must be one of {writable}, got {to!r}")
    if first_frame < 0:
        raise UserError(f"--first-frame must be >= 0, got {first_frame}")
    if max_gap < 2:
        raise UserError(f"--max-gap must be >= 2, got {max_gap}")
    kinds = tuple(name.strip() for name in names.split(",")) if names else ()
    settings = ReadSettings(clip, class_name, kinds, _size(size), first_frame)
    clips = list(read_labels(source, source_format, settings).values())
    if every is not None or labelled is not None:
        try:
            frames = LabelledFrames.parse(labelled or "", 1 if every is None else every)
        except ValueError as error:
            raise UserError(f"--labelled, --every: {error}") from error
        clips = [one._replace(labelled=frames) for one in clips]
    if interpolate is not None:
        clips = [fill(one, interpolate, max_gap=max_gap) for one in clips]
    if split:
        clips = [one._replace(split=split) for one in clips]
    if append:
        if to != "csv":
            raise UserError(f"--append must be used with --to csv, got {to}")
        new = {one.name for one in clips}
        clips = [one for one in read_labels(out, "csv").values() if one.name not in new] + clips
    elif any((out / name).exists() for name in ("labels.csv", "labels.json")):
        raise UserError(f"--out must be a folder without labels, or use --append, got {out}")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out must be a folder: cannot create {out}: {error.strerror}") from error
    paths = written.write(out, clips)
    boxes = sum(len(one.labels) for one in clips)
    found = ", ".join(sorted({label.class_name or "no class" for one in clips for label in one.labels}))
    typer.echo(f"{len(clips)} clips, {boxes} boxes ({found or 'none'}): wrote {paths[0] if paths else out}")


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if found is None:
        raise UserError(f"--size must be WIDTHxHEIGHT, such as 640x512, got {text!r}")
    return int(found[1]), int(found[2])
