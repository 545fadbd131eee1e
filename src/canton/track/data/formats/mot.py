"""Labels of one clip in the format of the MOT challenge (Leal-Taixé et al. 2015, arXiv:1504.01942)."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from canton.errors import UserError
from canton.io.atomic import atomic_write
from canton.track.data.formats.csv import number
from canton.track.data.formats.labels import (
    ALL_FRAMES,
    ClipLabels,
    Label,
    checked_box,
    checked_frame,
    normalise_class,
    read_text,
)
from canton.track.data.formats.rows import number_rows

NAMES = "labels.txt"
"""Beside gt.txt, the class names, as CVAT reads and writes them in its format MOT 1.1."""


def read_mot(path: Path, *, class_name: str = "") -> ClipLabels:
    """Return the labels of a clip from rows frame,track,x,y,w,h,... whose frames count from 1.

    A row whose seventh number is 0 is skipped, as MOT defines it; its other numbers may be anything. The
    eighth number is a class, from 1, if a file labels.txt lies beside the file, with one name a line. The
    clip is named after the file or, for CLIP/gt/gt.txt, after the folder.

    Args:
        path: the file.
        class_name: class of the other objects.

    Raises:
        UserError: the file cannot be read, or a row is invalid.
    """
    class_name = normalise_class(class_name)
    names = _names(path.with_name(NAMES))
    labels = []
    for line, (frame, track, *rest) in number_rows(path, least=6, shape="frame,track,x,y,w,h,..."):
        where = f"{path}, line {line}"
        try:
            index = checked_frame(frame, 1)
            if len(rest) > 4 and rest[4] == 0:
                continue
            kind = class_name
            if names and len(rest) > 5 and rest[5] >= 1:
                if rest[5] > len(names):
                    raise ValueError(f"class must be 1 to {len(names)}, got {rest[5]:g}")
                kind = names[int(rest[5]) - 1]
            labels.append(Label(index, checked_box(*rest[:4]), int(track), kind, where))
        except ValueError as error:
            raise UserError(f"{where}: {error}") from error
    name = path.parent.parent.name if path.name == "gt.txt" and path.parent.name == "gt" else path.stem
    clip = ClipLabels.of(name, labels)
    return clip._replace(class_name=class_name) if class_name else clip


def write_mot(folder: Path, clips: Collection[ClipLabels]) -> list[Path]:
    """Write CLIP/gt/gt.txt and CLIP/gt/labels.txt for each clip, and return the paths.

    Raises:
        UserError: a label is a point, or some frames of a clip are not labelled: the format cannot say so.
    """
    paths = []
    names = sorted({label.class_name for clip in clips for label in clip.labels if label.class_name})
    numbers = {name: k for k, name in enumerate(names, 1)}
    for clip in clips:
        if clip.labelled != ALL_FRAMES:
            raise UserError(
                f"{clip.name} has frames that are not labelled, which MOT cannot say: use csv or coco"
            )
        if clip.name in ("", ".", "..") or set(clip.name) & set("/\\\0"):
            raise UserError(f"clip must have a name that can be a folder's, got {clip.name!r:.60}")
        rows = []
        for label in clip.labels:
            if not label.box.width:
                raise UserError(f"{label.where or clip.name}: MOT has no points, only boxes: use csv")
            box = ",".join(map(number, label.box))
            kind = numbers.get(label.class_name, -1)
            rows.append(f"{label.frame + 1},{label.track or -1},{box},1,{kind},1\n")
        path = folder / clip.name / "gt" / "gt.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write("".join(rows).encode())
        with atomic_write(path.with_name(NAMES)) as file:
            file.write("".join(f"{name}\n" for name in names).encode())
        paths.append(path)
    return paths


def _names(path: Path) -> list[str]:
    return [normalise_class(line) for line in read_text(path).splitlines()] if path.is_file() else []
