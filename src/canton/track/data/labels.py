"""What people noted down about their videos: a box for each thing in each frame, in three common forms."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from canton.errors import UserError
from canton.io.atomic import os_error_reason
from canton.track.boxes import Box

T = TypeVar("T")


class Label(NamedTuple):
    """One box in one frame. frame: from 0. track: the number of the thing, 0 where nobody counted. kind:
    what it is, in lower case, such as "drone".
    """

    frame: int
    box: Box
    track: int
    kind: str


class ClipLabels(NamedTuple):
    """All labels of a clip, by frame. name: of the clip, without an ending. kind: what the clip is of, in
    lower case: what splits.csv says, or else what most of its labels are. modality: such as "IR" or "V".
    split: such as "train"; "" where nothing says.
    """

    name: str
    kind: str
    modality: str
    split: str
    labels: tuple[Label, ...]


def read_labels(path: Path, *, split_column: str = "split") -> dict[str, ClipLabels]:
    """The labels of many clips from one .csv file, with the columns clip, frame, x, y, w, h and, if you like,
    modality, class and track.

    A file splits.csv beside it, if there is one, is read too: see `with_splits`.

    Raises: UserError for a file that cannot be read, a column that is missing, or a value that is none.
    """
    found: dict[str, list[Label]] = {}
    modalities: dict[str, str] = {}
    for line, row in _rows(path, ("clip", "frame", "x", "y", "w", "h")):
        modalities.setdefault(row["clip"], row.get("modality") or "")
        found.setdefault(row["clip"], []).append(_label(path, line, row))
    clips = {name: _clip(name, labels, modalities[name]) for name, labels in found.items()}
    return with_splits(clips, path.with_name("splits.csv"), split_column=split_column)


def with_splits(
    clips: dict[str, ClipLabels], path: Path, *, split_column: str = "split"
) -> dict[str, ClipLabels]:
    """`clips`, and what a splits.csv, if there is one, says of them.

    It has a row for each clip: column clip, `split_column` and, if you like, class (what the clip is of) and
    modality. It may name clips in which nothing was labelled.

    Raises: UserError for a file that cannot be read, or lacks a column.
    """
    if not path.exists():
        return clips
    clips = dict(clips)
    for _, row in _rows(path, ("clip", split_column)):
        known = clips.get(row["clip"]) or _clip(row["clip"], [])
        clips[row["clip"]] = known._replace(
            kind=normalise_class(row.get("class") or "") or known.kind,
            modality=row.get("modality") or known.modality,
            split=row[split_column],
        )
    return clips


def normalise_class(name: str) -> str:
    """The name of a kind of thing as Canton compares it: " Drone" is "drone"."""
    return name.strip().lower()


def read_mot(path: Path, *, kind: str = "") -> ClipLabels:
    """The labels of one clip in the form of the MOT challenge: rows of frame (from 1), track, x, y, w, h and
    more, which is not read; a row whose seventh number is 0 is to be ignored and is.

    kind: what the things are, which the form does not say. The clip is named after the file, or, for
    CLIP/gt/gt.txt, after the folder.

    Raises: UserError for a file that cannot be read, or a row that is none.

    Source: Leal-Taixé et al. 2015, arXiv:1504.01942.
    """
    labels = []
    for line, text in enumerate(_text(path).splitlines(), 1):
        if not text.strip():
            continue
        parts = text.split(",")
        try:
            frame, track, x, y, w, h, *more = (float(part) for part in parts)
            number = int(track)
        except (ValueError, OverflowError) as error:
            raise UserError(
                f"{path}, line {line}: {text[:60]!r} is no row of frame,track,x,y,w,h,... as MOT has it"
            ) from error
        if not (frame >= 1 and frame.is_integer()):
            raise UserError(f"{path}, line {line}: frame is {frame:g}: MOT counts 1, 2, 3 and so on")
        try:
            box = _box(x, y, w, h)
        except ValueError as error:
            raise UserError(f"{path}, line {line}: {error}") from error
        if not more or more[0] != 0:
            labels.append(Label(int(frame) - 1, box, number, normalise_class(kind)))
    name = path.parent.parent.name if path.name == "gt.txt" and path.parent.name == "gt" else path.stem
    return _clip(name, labels)._replace(kind=normalise_class(kind))


def read_coco(path: Path) -> dict[str, ClipLabels]:
    """The labels of many clips in COCO's form for video: tables `videos` (id, name), `images` (id, video_id,
    frame_id, from 0), `annotations` (image_id, bbox, category_id and, if you like, track_id or instance_id)
    and `categories` (id, name).

    Raises: UserError for a file that cannot be read, or lacks a table or an entry.

    Source: https://cocodataset.org/#format-data, and TAO's and MMTracking's additions for video.
    """
    tables = _Tables(path)
    names = dict(tables.each("videos", lambda video: (video["id"], Path(str(video["name"])).stem)))
    kinds = dict(tables.each("categories", lambda kind: (kind["id"], normalise_class(str(kind["name"])))))
    places = dict(
        tables.each(
            "images",
            lambda image: (
                image["id"],
                (names[image["video_id"]], int(image["frame_id" if "frame_id" in image else "frame_index"])),
            ),
        )
    )
    found: dict[str, list[Label]] = {name: [] for name in names.values()}
    for name, label in tables.each("annotations", lambda note: _noted(note, places, kinds)):
        found[name].append(label)
    return {name: _clip(name, labels) for name, labels in found.items()}


def _noted(
    note: dict[str, Any], places: dict[Any, tuple[str, int]], kinds: dict[Any, str]
) -> tuple[str, Label]:
    """The clip's name and the label of one entry of a COCO file."""
    name, frame = places[note["image_id"]]
    x, y, w, h = (float(value) for value in note["bbox"])
    track = int(note.get("track_id", note.get("instance_id", 0)))
    return name, Label(frame, _box(x, y, w, h), track, kinds[note["category_id"]])


class _Tables:
    """The tables of a COCO file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        text = _text(path)
        try:
            self._tables = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path} is no COCO file of video labels: {error}") from error

    def each(self, table: str, read: Callable[[dict[str, Any]], T]) -> list[T]:
        """What `read` makes of each entry; where it fails, the entry is named, counted from 0."""
        entries = self._tables.get(table) if isinstance(self._tables, dict) else None
        if not isinstance(entries, list):
            raise UserError(f"{self._path} is no COCO file of video labels: it has no table {table!r}")
        made: list[T] = []
        try:
            made.extend(read(entry) for entry in entries)  # which keeps those before the one that fails
        except KeyError as error:
            raise UserError(f"{self._path}, {table}, entry {len(made)}: {error} is missing") from error
        except (TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{self._path}, {table}, entry {len(made)}: {error}") from error
        return made


def _clip(name: str, labels: list[Label], modality: str = "") -> ClipLabels:
    kinds = [label.kind for label in labels if label.kind]
    usual = max(sorted(set(kinds)), key=kinds.count, default="")
    return ClipLabels(name, usual, modality, "", tuple(sorted(labels, key=lambda label: label.frame)))


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and cells of every row of a .csv file with these columns, and perhaps more."""
    reader = csv.DictReader(_text(path).splitlines())
    try:
        lacking = [column for column in columns if column not in (reader.fieldnames or ())]
        if lacking:
            raise UserError(f"{path} has no column {', '.join(lacking)}: it needs {', '.join(columns)}")
        for row in reader:
            if any(row[column] is None for column in columns):
                raise UserError(f"{path}, line {reader.line_num}: a cell is missing")
            yield reader.line_num, row
    except csv.Error as error:  # of a cell that is too long
        raise UserError(f"{path}, line {reader.line_num + 1}: {error}") from error


def _label(path: Path, line: int, row: dict[str, str]) -> Label:
    try:
        frame, track = int(row["frame"]), int(row.get("track") or 0)
        box = _box(*(float(row[name]) for name in "xywh"))
    except ValueError as error:
        raise UserError(f"{path}, line {line}: {error}") from error
    if frame < 0:
        raise UserError(f"{path}, line {line}: frame is {frame}: frames count from 0")
    return Label(frame, box, track, normalise_class(row.get("class") or ""))


def _box(x: float, y: float, w: float, h: float) -> Box:
    if not (w > 0 and h > 0 and math.isfinite(x + y + w + h)):
        raise ValueError(f"the box {(x, y, w, h)} is none: x, y, width and height in px, sizes above 0")
    return Box(x, y, w, h)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot read {path}: {os_error_reason(error)}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text: labels are .csv, .txt or .json") from error
