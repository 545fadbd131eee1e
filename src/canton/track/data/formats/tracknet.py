"""Labels of one clip in the format of TrackNet (Huang et al. 2019, arXiv:1907.03698): points of a ball."""

from __future__ import annotations

from pathlib import Path

from canton.errors import UserError
from canton.track.data.formats.labels import (
    ClipLabels,
    Label,
    LabelledFrames,
    ReadSettings,
    as_number,
    checked_frame,
    checked_point,
    normalise_class,
)
from canton.track.data.formats.rows import csv_rows

COLUMNS = ("Frame", "Visibility", "X", "Y")


def read_tracknet(path: Path, settings: ReadSettings) -> dict[str, ClipLabels]:
    """Return the labels of a clip, by its name, from rows Frame,Visibility,X,Y.

    Visibility 0 says that the object is not seen. Frames without a row are not labelled.

    Args:
        settings: `clip` names the clip (default: the file, without _ball); `class_name` is the class
            (default: ball).

    Raises:
        UserError: the file cannot be read, or a row is invalid.
    """
    kind = normalise_class(settings.class_name) or "ball"
    name = settings.clip or path.stem.removesuffix("_ball")
    labels, frames = [], []
    for line, row in csv_rows(path, COLUMNS):
        where = f"{path}, line {line}"
        try:
            frame = checked_frame(as_number(row["Frame"]), settings.first_frame)
            frames.append(frame)
            if as_number(row["Visibility"]):
                box = checked_point(as_number(row["X"]), as_number(row["Y"]))
                labels.append(Label(frame, box, 1, kind, where))
        except ValueError as error:
            raise UserError(f"{where}: {error}") from error
    clip = ClipLabels.of(name, labels, labelled=LabelledFrames.of(frames))
    return {name: clip._replace(class_name=kind)}
