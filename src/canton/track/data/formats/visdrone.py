"""Labels of one clip in the format of VisDrone's video tasks (Zhu et al. 2021, arXiv:2001.06303)."""

from __future__ import annotations

from pathlib import Path

from canton.errors import UserError
from canton.track.data.formats.labels import ClipLabels, Label, ReadSettings, checked_box, checked_frame
from canton.track.data.formats.rows import number_rows

CLASSES = (
    "ignored regions", "pedestrian", "people", "bicycle", "car", "van", "truck", "tricycle",
    "awning-tricycle", "bus", "motor", "others",
)  # fmt: skip
"""Class by its number. Class 0 marks a region that does not count."""


def read_visdrone(path: Path, settings: ReadSettings) -> dict[str, ClipLabels]:
    """Return the labels of a clip, by its name.

    Rows are frame,target,x,y,w,h,score,category,truncation,occlusion; frames count from 1. Rows with a score
    of 0 or category 0 are skipped.

    Args:
        settings: `clip` names the clip (default: the file).

    Raises:
        UserError: the file cannot be read, or a row is invalid.
    """
    name = settings.clip or path.stem
    labels = []
    shape = "frame,target,x,y,w,h,score,category,truncation,occlusion"
    for line, numbers in number_rows(path, least=8, shape=shape):
        where = f"{path}, line {line}"
        frame, target, x, y, width, height, score, category, *_ = numbers
        try:
            index = checked_frame(frame, 1)
            if category != int(category) or not 0 <= category < len(CLASSES):
                raise ValueError(f"category must be a number of 0 to {len(CLASSES) - 1}, got {category:g}")
            if score and category:
                box = checked_box(x, y, width, height)
                labels.append(Label(index, box, int(target) + 1, CLASSES[int(category)], where))
        except ValueError as error:
            raise UserError(f"{where}: {error}") from error
    return {name: ClipLabels.of(name, labels)}
