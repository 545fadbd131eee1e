"""Labels in YOLO's format: a text file per image, with values relative to its size.

Source: https://docs.ultralytics.com/datasets/detect (rows: class x_centre y_centre width height).
"""

from __future__ import annotations

from pathlib import Path

from canton.errors import UserError
from canton.track.boxes import Box
from canton.track.data.formats.labels import (
    ClipLabels,
    Label,
    ReadSettings,
    checked_box,
    checked_frame,
    frame_of_name,
    normalise_class,
    read_text,
)
from canton.track.data.formats.rows import number_rows

NAME_FILES = ("classes.txt", "obj.names")
"""Files with one class name a line, in the folder or above it."""


def read_yolo(folder: Path, settings: ReadSettings) -> dict[str, ClipLabels]:
    """Return the labels of a folder of files CLIP_NUMBER.txt, by the clip's name.

    A sixth number is the object's. An image without a file has no objects, as YOLO defines it.

    Args:
        folder: the folder.
        settings: `size` is required. `names` are the classes, else those of classes.txt or obj.names, else
            the numbers. `clip` names the clip of files that are named by numbers alone (default: the folder).

    Raises:
        UserError: a file cannot be read, a row is invalid or the size is unknown.
    """
    paths = sorted(path for path in folder.glob("*.txt") if path.name not in NAME_FILES)
    if not paths:
        raise UserError(f"{folder} must have label files CLIP_NUMBER.txt, got none")
    if settings.size is None:
        raise UserError(f"{folder} has relative values: give the size of the frames, such as 640x512")
    names = settings.names or _names(folder)
    labels: dict[str, list[Label]] = {}
    for path in paths:
        found = frame_of_name(path.stem)
        if found is None:
            raise UserError(f"{path}: the name must end with the number of the frame, such as A_0007.txt")
        try:
            frame = checked_frame(found[1], settings.first_frame)
        except ValueError as error:
            raise UserError(f"{path}: {error}") from error
        clip = labels.setdefault(found[0] or settings.clip or folder.name, [])
        shape = "class x_centre y_centre width height, values of 0 to 1"
        for line, numbers in number_rows(path, least=5, shape=shape, separator=None):
            where = f"{path}, line {line}"
            try:
                clip.append(_label(frame, numbers, settings.size, names, where))
            except ValueError as error:
                raise UserError(f"{where}: {error}") from error
    return {name: ClipLabels.of(name, found) for name, found in labels.items()}


def _label(
    frame: int, numbers: list[float], size: tuple[int, int], names: tuple[str, ...], where: str
) -> Label:
    kind, x, y, width, height, *track = numbers
    if kind != int(kind) or kind < 0 or (names and kind >= len(names)):
        raise ValueError(f"class must be a number of 0 to {len(names) - 1 if names else '...'}, got {kind:g}")
    if max(abs(x), abs(y), width, height) > 1:
        raise ValueError(f"values must be relative, of 0 to 1, got {(x, y, width, height)}")
    box = Box.from_centre(x * size[0], y * size[1], width * size[0], height * size[1])
    name = names[int(kind)] if names else str(int(kind))
    return Label(frame, checked_box(*box), int(track[0]) if track else 0, normalise_class(name), where)


def _names(folder: Path) -> tuple[str, ...]:
    for place in (folder, folder.parent):
        for name in NAME_FILES:
            if (place / name).is_file():
                return tuple(line.strip() for line in read_text(place / name).splitlines() if line.strip())
    return ()
