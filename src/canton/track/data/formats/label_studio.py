"""Labels in the JSON that Label Studio exports for video.

Source: https://labelstud.io/tags/videorectangle. Frames count from 1, and values are percents of the frame.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from canton.errors import UserError
from canton.track.boxes import Box
from canton.track.data.formats.json_tables import Entry, parse_entries, read_json
from canton.track.data.formats.labels import (
    ClipLabels,
    Label,
    ReadSettings,
    as_number,
    checked_box,
    checked_frame,
    normalise_class,
)

MAX_GAP = 100_000
"""Largest distance of two key frames, in frames."""


def read_label_studio(path: Path, settings: ReadSettings) -> dict[str, ClipLabels]:
    """Return the labels of every clip, by its name.

    Boxes between two key frames are interpolated linearly, as Label Studio shows them, unless the first of
    the two ends the object ("enabled": false).

    Args:
        settings: `size` of the frames, if the file does not state it.

    Raises:
        UserError: the file cannot be read, a region is invalid, or the size is unknown.
    """
    labels: dict[str, list[Label]] = {}

    def read_task(task: Entry) -> None:
        data = task["data"]
        source = data.get("video") or next((v for v in data.values() if isinstance(v, str)), "")
        name = settings.clip or Path(str(source)).stem
        clip = labels.setdefault(name, [])
        entries = [task] if "result" in task else task["annotations"]
        for annotation in entries:
            if not annotation.get("was_cancelled"):
                results = annotation["result"]
                found = parse_entries(
                    path, f"task {len(labels) - 1}, result", results, _Region(settings, path)
                )
                clip += [
                    Label(label.frame, label.box, track, label.class_name, label.where)
                    for track, region in enumerate(found, 1)
                    for label in region
                ]

    content = read_json(path, "an export of Label Studio")
    parse_entries(path, "tasks", content if isinstance(content, list) else [content], read_task)
    return {name: ClipLabels.of(name, found) for name, found in labels.items()}


class _Region:
    """A reader of one region of a video."""

    def __init__(self, settings: ReadSettings, path: Path) -> None:
        self.size, self.path = settings.size, path

    def __call__(self, region: Entry) -> list[Label]:
        """Return the region's boxes, frame by frame."""
        if region["type"] != "videorectangle":
            return []
        value = region["value"]
        names = value.get("labels") or value.get("videorectanglelabels") or [""]
        kind = normalise_class(str(names[0]))
        width, height = region.get("original_width"), region.get("original_height")
        if width and height:
            size = as_number(width), as_number(height)
        elif self.size is not None:
            size = float(self.size[0]), float(self.size[1])
        else:
            raise UserError(
                f"{self.path} has relative values and no original_width: give the size of the frames, such "
                "as 640x512"
            )
        where = f"{self.path}, region {region.get('id', '?')}"
        keys = sorted((self._key(key, size) for key in value["sequence"]), key=lambda key: key[0])
        labels = []
        for k, (frame, box, enabled) in enumerate(keys):
            following = keys[k + 1] if k + 1 < len(keys) else None
            stop = following[0] if following and enabled else frame + 1
            if stop - frame > MAX_GAP:
                raise ValueError(f"key frames must be at most {MAX_GAP} frames apart, got {stop - frame}")
            for t in range(frame, stop):
                share = (t - frame) / (stop - frame)
                end = following[1] if following and enabled else box
                between = (a + share * (b - a) for a, b in zip(box, end, strict=True))
                labels.append(Label(t, checked_box(*between), 0, kind, where))
        return labels

    @staticmethod
    def _key(key: Any, size: tuple[float, float]) -> tuple[int, Box, bool]:
        frame = checked_frame(as_number(key["frame"]), 1)
        x, y, width, height = (as_number(key[name]) / 100 for name in ("x", "y", "width", "height"))
        box = checked_box(x * size[0], y * size[1], width * size[0], height * size[1])
        return frame, box, bool(key.get("enabled", True))
