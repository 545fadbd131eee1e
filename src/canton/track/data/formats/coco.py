"""Labels of many clips in COCO's format, with or without its extension for video.

Source: https://cocodataset.org/#format-data, with the additions of TAO and MMTracking for video.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from canton.errors import UserError
from canton.io.atomic import atomic_write
from canton.track.data.formats.json_tables import Entry, T, parse_entries, read_json
from canton.track.data.formats.labels import (
    ALL_FRAMES,
    ClipLabels,
    Label,
    LabelledFrames,
    as_number,
    checked_box,
    checked_frame,
    frame_of_name,
    normalise_class,
)

ALL_LABELLED = "all_frames_labelled"
"""Key of a video whose frames without an image have no objects. Without it they are not labelled."""


def read_coco(path: Path, *, first_frame: int = 0) -> dict[str, ClipLabels]:
    """Return the labels of every clip in a COCO file, by the clip's name.

    The tables are videos (id, name), images (id, video_id, frame_id from 0), annotations (image_id, bbox,
    category_id and, optionally, track_id or instance_id) and categories (id, name). Without videos, the
    file_name of an image gives both: CLIP/0007.png and CLIP_0007.png are a frame of CLIP. A frame without an
    image is not labelled.

    Args:
        first_frame: number of the first frame in file names.

    Raises:
        UserError: the file cannot be read, or a table or an entry is missing or invalid.
    """
    tables = _Tables(path)
    videos = (
        tables.read("videos", lambda v: (v["id"], (_stem(v["name"]), bool(v.get(ALL_LABELLED)))))
        if (tables.has("videos"))
        else []
    )
    names = {number: name for number, (name, _) in videos}
    complete = {name for _, (name, everything) in videos if everything}
    classes = dict(
        tables.read("categories", lambda category: (category["id"], normalise_class(str(category["name"]))))
    )

    def frame_of(image: Entry) -> tuple[Any, tuple[str, int]]:
        if not names:
            return image["id"], _from_file_name(str(image["file_name"]), first_frame)
        number = image["frame_id"] if "frame_id" in image else image["frame_index"]
        return image["id"], (names[image["video_id"]], checked_frame(as_number(number)))

    frames = dict(tables.read("images", frame_of))
    entries = iter(range(10**9))

    def label_of(annotation: Entry) -> tuple[str, Label]:
        where = f"{path}, annotations, entry {next(entries)}"
        name, frame = frames[annotation["image_id"]]
        x, y, width, height = (as_number(value) for value in annotation["bbox"])
        track: Any = annotation.get("track_id", annotation.get("instance_id", 0))
        box = checked_box(x, y, width, height)
        return name, Label(frame, box, int(track), classes[annotation["category_id"]], where)

    labels: dict[str, list[Label]] = {name: [] for name in names.values()}
    seen: dict[str, list[int]] = {name: [] for name in names.values()}
    for name, frame in frames.values():
        labels.setdefault(name, [])
        seen.setdefault(name, []).append(frame)
    for name, label in tables.read("annotations", label_of):
        labels[name].append(label)
    return {
        name: ClipLabels.of(
            name, found, labelled=ALL_FRAMES if name in complete else LabelledFrames.of(seen[name])
        )
        for name, found in labels.items()
    }


def write_coco(folder: Path, clips: Collection[ClipLabels]) -> list[Path]:
    """Write labels.json to a folder, and return its path.

    Raises:
        UserError: a label is a point, which the format does not have.
    """
    kinds = sorted({label.class_name for clip in clips for label in clip.labels})
    numbers = {name: k for k, name in enumerate(kinds, 1)}
    videos: list[Entry] = []
    images: list[Entry] = []
    annotations: list[Entry] = []
    for video, clip in enumerate(clips, 1):
        everything = clip.labelled.ranges is None and clip.labelled.every == 1
        videos.append({"id": video, "name": clip.name, **({ALL_LABELLED: True} if everything else {})})
        shown = {label.frame for label in clip.labels}
        if not everything:
            last = max((last for _, last in clip.labelled.ranges or ()), default=max(shown, default=0))
            shown |= {frame for frame in range(last + 1) if clip.labelled.has(frame)}
        ids = {frame: len(images) + k for k, frame in enumerate(sorted(shown), 1)}
        images += [
            {"id": ids[f], "video_id": video, "frame_id": f, "file_name": f"{clip.name}/{f:06}.png"}
            for f in sorted(shown)
        ]
        for label in clip.labels:
            if not label.box.width:
                raise UserError(f"{label.where or clip.name}: COCO has no points, only boxes: use csv")
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": ids[label.frame],
                    "category_id": numbers[label.class_name],
                    "bbox": list(label.box),
                    "area": label.box.width * label.box.height,
                    "iscrowd": 0,
                    **({"track_id": label.track} if label.track else {}),
                }
            )
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    tables = {"videos": videos, "images": images, "annotations": annotations, "categories": categories}
    path = folder / "labels.json"
    with atomic_write(path) as file:
        file.write(json.dumps(tables).encode())
    return [path]


def _stem(name: Any) -> str:
    return Path(str(name)).stem


def _from_file_name(text: str, first_frame: int) -> tuple[str, int]:
    path = Path(text)
    found = frame_of_name(path.stem)
    if found is None:
        raise ValueError(f"file_name must end with the number of the frame, got {text[:60]!r}")
    clip, frame = found
    folder = path.parent.name
    if clip.lower() in ("", "frame", "img", "image"):
        clip = folder
    if not clip:
        raise ValueError(f"file_name must be CLIP/NUMBER or CLIP_NUMBER, got {text[:60]!r}")
    return clip, checked_frame(frame, first_frame)


class _Tables:
    """The tables of a COCO file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tables = read_json(path, "a COCO file")

    def has(self, table: str) -> bool:
        """Return whether there is a table, with entries."""
        return isinstance(self._tables, dict) and bool(self._tables.get(table))

    def read(self, table: str, parse: Callable[[Entry], T]) -> list[T]:
        """Return `parse` of each entry of a table; see `parse_entries`."""
        entries = self._tables.get(table) if isinstance(self._tables, dict) else None
        if not isinstance(entries, list):
            raise UserError(f"{self._path} is not a COCO file of video labels: it has no table {table!r}")
        return parse_entries(self._path, table, entries, parse)
