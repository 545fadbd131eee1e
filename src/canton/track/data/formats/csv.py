"""Labels of many clips in a CSV file, and splits.csv beside the labels of any format."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from canton.errors import UserError
from canton.track.data.formats.labels import ClipLabels, Label, checked_box, normalise_class, read_text

COLUMNS = ("clip", "frame", "x", "y", "w", "h")
SPLIT_COLUMNS = ("split_scene", "split")
"""Columns of splits.csv that name the split. The first that exists is used."""


def read_csv(path: Path, *, split_column: str | None = None) -> dict[str, ClipLabels]:
    """Return the labels of every clip in a CSV file, by the clip's name.

    The columns are clip, frame, x, y, w, h and, optionally, modality, class and track. A file splits.csv in
    the same folder is read too: see `add_splits`.

    Raises:
        UserError: a file cannot be read, or a column or a value is missing or invalid.
    """
    labels: dict[str, list[Label]] = {}
    modalities: dict[str, str] = {}
    for line, row in _rows(path, COLUMNS):
        modalities.setdefault(row["clip"], row.get("modality") or "")
        labels.setdefault(row["clip"], []).append(_label(path, line, row))
    clips = {name: ClipLabels.of(name, labels[name], modalities[name]) for name in labels}
    return add_splits(clips, path.with_name("splits.csv"), split_column=split_column)


def add_splits(
    clips: dict[str, ClipLabels], path: Path, *, split_column: str | None = None
) -> dict[str, ClipLabels]:
    """Return `clips` with the splits, classes and modalities of a splits.csv file, if there is one.

    The file has a row for each clip: the columns clip, `split_column` (None: split_scene, else split) and,
    optionally, class (that of the clip), modality and scene (the place). It may name clips without labels.

    Raises:
        UserError: the file cannot be read, or a column is missing.
    """
    if not path.exists():
        return clips
    clips = dict(clips)
    rows = list(_rows(path, ("clip",) if split_column is None else ("clip", split_column)))
    column = split_column or next((name for name in SPLIT_COLUMNS if rows and name in rows[0][1]), "split")
    for line, row in rows:
        if row.get(column) is None:
            raise UserError(f"{path}, line {line}: the row must have a cell in the column {column}")
        clip = clips.get(row["clip"]) or ClipLabels.of(row["clip"], [])
        clips[row["clip"]] = clip._replace(
            class_name=normalise_class(row.get("class") or "") or clip.class_name,
            modality=row.get("modality") or clip.modality,
            split=row[column],
            columns={name: cell for name, cell in row.items() if isinstance(cell, str) and name},
        )
    return clips


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the line number and the cells of every row of a CSV file with at least these columns."""
    reader = csv.DictReader(read_text(path).splitlines())
    try:
        missing = [column for column in columns if column not in (reader.fieldnames or ())]
        if missing:
            required, absent = ", ".join(columns), ", ".join(missing)
            raise UserError(f"{path} must have the columns {required}; missing: {absent}")
        for row in reader:
            if any(row[column] is None for column in columns):
                raise UserError(f"{path}, line {reader.line_num}: a cell is missing")
            yield reader.line_num, row
    except csv.Error as error:  # a cell is too long
        raise UserError(f"{path}, line {reader.line_num + 1}: {error}") from error


def _label(path: Path, line: int, row: dict[str, str]) -> Label:
    try:
        frame, track = int(row["frame"]), int(row.get("track") or 0)
        box = checked_box(*(float(row[name]) for name in "xywh"))
    except ValueError as error:
        raise UserError(f"{path}, line {line}: {error}") from error
    if frame < 0:
        raise UserError(f"{path}, line {line}: frame must be >= 0, got {frame}")
    return Label(frame, box, track, normalise_class(row.get("class") or ""))
