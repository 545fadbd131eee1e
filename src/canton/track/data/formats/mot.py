"""Labels of one clip in the format of the MOT challenge (Leal-Taixé et al. 2015, arXiv:1504.01942)."""

from __future__ import annotations

from pathlib import Path

from canton.errors import UserError
from canton.track.data.formats.labels import ClipLabels, Label, checked_box, normalise_class, read_text


def read_mot(path: Path, *, class_name: str = "") -> ClipLabels:
    """Return the labels of a clip from rows frame,track,x,y,w,h,... whose frames count from 1.

    A row whose seventh number is 0 is skipped, as MOT defines it; later numbers are not read. The clip is
    named after the file or, for CLIP/gt/gt.txt, after the folder.

    Args:
        path: the file.
        class_name: class of every object; the format has none.

    Raises:
        UserError: the file cannot be read, or a row is invalid.
    """
    class_name = normalise_class(class_name)
    labels = []
    for line, text in enumerate(read_text(path).splitlines(), 1):
        if not text.strip():
            continue
        try:
            frame, track, x, y, width, height, *more = (float(part) for part in text.split(","))
            number = int(track)
        except (ValueError, OverflowError) as error:
            raise UserError(
                f"{path}, line {line}: a row must be frame,track,x,y,w,h,..., got {text[:60]!r}"
            ) from error
        if not (frame >= 1 and frame.is_integer()):
            raise UserError(f"{path}, line {line}: frame must be an integer >= 1, got {frame:g}")
        try:
            box = checked_box(x, y, width, height)
        except ValueError as error:
            raise UserError(f"{path}, line {line}: {error}") from error
        if not more or more[0] != 0:
            labels.append(Label(int(frame) - 1, box, number, class_name))
    name = path.parent.parent.name if path.name == "gt.txt" and path.parent.name == "gt" else path.stem
    return ClipLabels.of(name, labels)._replace(class_name=class_name)
