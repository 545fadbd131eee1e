"""Labels of many clips in COCO's format for video.

Source: https://cocodataset.org/#format-data, with the additions of TAO and MMTracking for video.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from canton.errors import UserError
from canton.track.data.formats.labels import ClipLabels, Label, checked_box, normalise_class, read_text

T = TypeVar("T")
Entry = dict[str, Any]


def read_coco(path: Path) -> dict[str, ClipLabels]:
    """Return the labels of every clip in a COCO file, by the clip's name.

    The tables are videos (id, name), images (id, video_id, frame_id from 0), annotations (image_id, bbox,
    category_id and, optionally, track_id or instance_id) and categories (id, name).

    Raises:
        UserError: the file cannot be read, or a table or an entry is missing or invalid.
    """
    tables = _Tables(path)
    names = dict(tables.read("videos", lambda video: (video["id"], Path(str(video["name"])).stem)))
    classes = dict(
        tables.read("categories", lambda category: (category["id"], normalise_class(str(category["name"]))))
    )

    def frame_of(image: Entry) -> tuple[Any, tuple[str, int]]:
        number = image["frame_id"] if "frame_id" in image else image["frame_index"]
        return image["id"], (names[image["video_id"]], int(number))

    frames = dict(tables.read("images", frame_of))

    def label_of(annotation: Entry) -> tuple[str, Label]:
        name, frame = frames[annotation["image_id"]]
        x, y, width, height = (float(value) for value in annotation["bbox"])
        track: Any = annotation.get("track_id", annotation.get("instance_id", 0))
        box = checked_box(x, y, width, height)
        return name, Label(frame, box, int(track), classes[annotation["category_id"]])

    labels: dict[str, list[Label]] = {name: [] for name in names.values()}
    for name, label in tables.read("annotations", label_of):
        labels[name].append(label)
    return {name: ClipLabels.of(name, found) for name, found in labels.items()}


class _Tables:
    """The tables of a COCO file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        text = read_text(path)
        try:
            self._tables = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path} is not a COCO file of video labels: {error}") from error

    def read(self, table: str, parse: Callable[[Entry], T]) -> list[T]:
        """Return `parse` of each entry of a table.

        Raises:
            UserError: the table is missing, or `parse` fails; names the entry, counted from 0.
        """
        entries = self._tables.get(table) if isinstance(self._tables, dict) else None
        if not isinstance(entries, list):
            raise UserError(f"{self._path} is not a COCO file of video labels: it has no table {table!r}")
        parsed: list[T] = []
        try:
            parsed.extend(parse(entry) for entry in entries)  # keeps the entries before one that fails
        except KeyError as error:
            raise UserError(f"{self._path}, {table}, entry {len(parsed)}: {error} is missing") from error
        except (TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{self._path}, {table}, entry {len(parsed)}: {error}") from error
        return parsed
