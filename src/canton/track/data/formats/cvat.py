"""Labels of one clip in the format "CVAT for video 1.1".

Source: https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/. Frames count from 0 in the film.
"""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

from canton.errors import UserError
from canton.track.boxes import Box
from canton.track.data.formats.labels import (
    ALL_FRAMES,
    ClipLabels,
    Label,
    LabelledFrames,
    ReadSettings,
    as_number,
    checked_box,
    checked_frame,
    checked_point,
    normalise_class,
)
from canton.track.data.formats.xml_tree import attribute, number_of, read_xml


def read_cvat(path: Path, settings: ReadSettings) -> dict[str, ClipLabels]:
    """Return the labels of the clip in an XML file, by its name.

    Tracks of boxes and of single points are read. A shape with outside="1" says that the object is not there.
    The task's start, stop and frame filter tell which frames are labelled.

    Args:
        settings: `clip` names the clip (default: the task's source, else the file).

    Raises:
        UserError: the file cannot be read, or a track is invalid.
    """
    root = read_xml(path)
    if root.tag != "annotations" or root.find("image") is not None:
        raise UserError(f"{path} must be 'CVAT for video', with <annotations> of <track>: export it so")
    source = root.findtext(".//source") or root.findtext(".//task/name") or ""
    name = settings.clip or Path(source.strip()).stem or path.stem
    labels = []
    for count, track in enumerate(root.iter("track")):
        where = f"{path}, track {track.get('id', count)}"
        try:
            kind = normalise_class(attribute(track, "label"))
            number = int(as_number(track.get("id", count))) + 1  # 0 stands for unknown
            for shape in track:
                if shape.get("outside") == "1":
                    continue
                frame = checked_frame(number_of(shape, "frame"))
                labels.append(Label(frame, _box(shape), number, kind, f"{where}, frame {frame}"))
        except ValueError as error:
            raise UserError(f"{where}: {error}") from error
    try:
        labelled = _labelled(root)
    except ValueError as error:
        raise UserError(f"{path}, task: {error}") from error
    return {name: ClipLabels.of(name, labels, labelled=labelled)}


def _box(shape: ET.Element) -> Box:
    if shape.tag == "box":
        left, top, right, bottom = (number_of(shape, side) for side in ("xtl", "ytl", "xbr", "ybr"))
        return checked_box(left, top, right - left, bottom - top)
    if shape.tag == "points":
        parts = attribute(shape, "points").replace(",", " ").split()
        if len(parts) != 2:
            raise ValueError(f"points must be one point x,y, got {attribute(shape, 'points')[:60]!r}")
        return checked_point(as_number(parts[0]), as_number(parts[1]))
    raise ValueError(f"a shape must be <box> or <points>, got <{shape.tag}>")


def _labelled(root: ET.Element) -> LabelledFrames:
    """Return the frames of the task."""
    step = re.search(r"step\s*=\s*(\d{1,6})", root.findtext(".//frame_filter") or "")
    every = int(step[1]) if step else 1
    start, stop = root.findtext(".//task/start_frame"), root.findtext(".//task/stop_frame")
    if start is None or stop is None or (every == 1 and as_number(start.strip()) == 0):
        return LabelledFrames(None, max(every, 1)) if every > 1 else ALL_FRAMES
    first, last = (checked_frame(as_number(text.strip())) for text in (start, stop))
    return LabelledFrames.parse(f"{first}-{last}", max(every, 1))
