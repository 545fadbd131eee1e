"""Labels of many clips in a CSV file, and splits.csv beside the labels of any format."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection
from pathlib import Path

from canton.errors import UserError
from canton.io.atomic import atomic_write
from canton.track.data.formats.labels import (
    ClipLabels,
    Label,
    LabelledFrames,
    as_number,
    checked_box,
    checked_frame,
    checked_point,
    normalise_class,
)
from canton.track.data.formats.rows import csv_rows

COLUMNS = ("clip", "frame", "x", "y", "w", "h")
SPLIT_COLUMNS = ("split_scene", "split")
"""Columns of splits.csv that name the split. The first that exists is used."""
LABELLED, EVERY = "labelled", "every"
"""Columns of splits.csv that tell which frames are labelled."""


def read_csv(path: Path, *, split_column: str | None = None) -> dict[str, ClipLabels]:
    """Return the labels of every clip in a CSV file, by the clip's name.

    The columns are clip, frame, x, y, w, h and, optionally, modality, class and track. Without w and h, x and
    y are a point. A file splits.csv in the same folder is read too: see `add_splits`.

    Raises:
        UserError: a file cannot be read, or a column or a value is missing or invalid.
    """
    labels: dict[str, list[Label]] = {}
    modalities: dict[str, str] = {}
    for line, row in csv_rows(path, COLUMNS):
        modalities.setdefault(row["clip"], row.get("modality") or "")
        labels.setdefault(row["clip"], []).append(_label(path, line, row))
    clips = {name: ClipLabels.of(name, labels[name], modalities[name]) for name in labels}
    return add_splits(clips, path.with_name("splits.csv"), split_column=split_column)


def add_splits(
    clips: dict[str, ClipLabels], path: Path, *, split_column: str | None = None
) -> dict[str, ClipLabels]:
    """Return `clips` with the splits, classes and modalities of a splits.csv file, if there is one.

    The file has a row for each clip: the columns clip, `split_column` (None: split_scene, else split) and,
    optionally, class (that of the clip), modality, scene (the place), labelled (ranges of labelled frames,
    such as 0-99 150-199) and every (only every n-th of them is labelled). It may name clips without labels.

    Raises:
        UserError: the file cannot be read, or a column is missing.
    """
    if not path.exists():
        return clips
    clips = dict(clips)
    rows = list(csv_rows(path, ("clip",) if split_column is None else ("clip", split_column)))
    column = split_column or next((name for name in SPLIT_COLUMNS if rows and name in rows[0][1]), "split")
    for line, row in rows:
        if row.get(column) is None:
            raise UserError(f"{path}, line {line}: the row must have a cell in the column {column}")
        clip = clips.get(row["clip"]) or ClipLabels.of(row["clip"], [])
        labelled = clip.labelled
        if row.get(LABELLED) or row.get(EVERY):
            try:
                labelled = LabelledFrames.parse(row.get(LABELLED) or "", int(row.get(EVERY) or 1))
            except ValueError as error:
                raise UserError(f"{path}, line {line}: {error}") from error
        clips[row["clip"]] = clip._replace(
            class_name=normalise_class(row.get("class") or "") or clip.class_name,
            modality=row.get("modality") or clip.modality,
            split=row[column],
            columns={name: cell for name, cell in row.items() if isinstance(cell, str) and name},
            labelled=labelled,
        )
    return clips


def write_csv(folder: Path, clips: Collection[ClipLabels]) -> list[Path]:
    """Write labels.csv and splits.csv to a folder, and return their paths.

    Columns of splits.csv that the clips were read with are kept.
    """
    rows = [
        (clip.name, clip.modality, label.class_name, label.frame, *_cells(label), label.track or "")
        for clip in clips
        for label in clip.labels
    ]
    splits = [
        {
            "clip": clip.name,
            "split": clip.split,
            "class": clip.class_name,
            "modality": clip.modality,
            **clip.columns,
            LABELLED: str(clip.labelled),
            EVERY: str(clip.labelled.every),
        }
        for clip in clips
    ]
    columns = tuple(dict.fromkeys(name for row in splits for name in row))
    head = ("clip", "modality", "class", "frame", "x", "y", "w", "h", "track")
    labels, split = folder / "labels.csv", folder / "splits.csv"
    _write(labels, [head, *rows])
    _write(split, [columns, *(tuple(row.get(name, "") for name in columns) for row in splits)])
    return [labels, split]


def number(value: float) -> str:
    """Return a coordinate in the shortest form that reads back the same."""
    return repr(int(value)) if value == int(value) else repr(value)


def _cells(label: Label) -> tuple[str, ...]:
    box = label.box
    size = ("", "") if box.width == box.height == 0 else (number(box.width), number(box.height))
    return (number(box.x), number(box.y), *size)


def _write(path: Path, rows: list[tuple[object, ...]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())


def _label(path: Path, line: int, row: dict[str, str]) -> Label:
    where = f"{path}, line {line}"
    try:
        frame, track = checked_frame(int(row["frame"])), int(row.get("track") or 0)
        if row["w"].strip() or row["h"].strip():
            box = checked_box(*(float(row[name]) for name in "xywh"))
        else:
            box = checked_point(as_number(row["x"]), as_number(row["y"]))
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error
    return Label(frame, box, track, normalise_class(row.get("class") or ""), where)
