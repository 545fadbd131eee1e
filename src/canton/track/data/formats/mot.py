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
)
from canton.track.data.formats.rows import number_rows


def read_mot(path: Path, *, class_name: str = "") -> ClipLabels:
    """Return the labels of a clip from rows frame,track,x,y,w,h,... whose frames count from 1.

    A row whose seventh number is 0 is skipped, as MOT defines it; its other numbers may be anything. Later
    numbers are not read. The clip is named after the file or, for CLIP/gt/gt.txt, after the folder.

    Args:
        path: the file.
        class_name: class of every object; the format has none.

    Raises:
        UserError: the file cannot be read, or a row is invalid.
    """
    class_name = normalise_class(class_name)
    labels = []
    for line, (frame, track, *rest) in number_rows(path, least=6, shape="frame,track,x,y,w,h,..."):
        where = f"{path}, line {line}"
        try:
            index = checked_frame(frame, 1)
            if len(rest) > 4 and rest[4] == 0:
                continue
            labels.append(Label(index, checked_box(*rest[:4]), int(track), class_name, where))
        except ValueError as error:
            raise UserError(f"{where}: {error}") from error
    name = path.parent.parent.name if path.name == "gt.txt" and path.parent.name == "gt" else path.stem
    return ClipLabels.of(name, labels)._replace(class_name=class_name)


def write_mot(folder: Path, clips: Collection[ClipLabels]) -> list[Path]:
    """Write CLIP/gt/gt.txt for each clip, and return the paths. Classes are left out: the format has none.

    Raises:
        UserError: a label is a point, or some frames of a clip are not labelled: the format cannot say so.
    """
    paths = []
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
            rows.append(f"{label.frame + 1},{label.track or -1},{box},1,-1,-1,-1\n")
        path = folder / clip.name / "gt" / "gt.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write("".join(rows).encode())
        paths.append(path)
    return paths
