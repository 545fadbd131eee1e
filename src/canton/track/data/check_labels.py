"""Checks of a clip's labels against its video."""

from __future__ import annotations

from pathlib import Path

from canton.errors import UserError
from canton.track.data.formats.labels import ClipLabels
from canton.track.video.reader import open_video


def check_clip(labels: ClipLabels, path: Path) -> None:
    """Check that the labels of a clip can be those of its video.

    Args:
        labels: of the clip.
        path: the video, of which the first frame is read.

    Raises:
        UserError: a frame is beyond the film, a box's centre is outside the picture, all values look
            relative, or the video cannot be read.
    """
    if not labels.labels:
        return
    with open_video(path) as video:
        width, height, frames = video.width, video.height, video.frames
    first = labels.labels[0]
    if len(labels.labels) > 1 and all(max(map(abs, label.box)) <= 1 for label in labels.labels):
        raise UserError(
            f"{first.where}: boxes of {labels.name} must be in px ({width} x {height}), got relative values "
            "of 0 to 1: convert them with canton track labels --from yolo"
        )
    for label in labels.labels:
        if frames is not None and label.frame >= frames:
            raise UserError(
                f"{label.where}: frame must be < {frames}, the frames of {path.name}, got {label.frame}"
            )
        x, y = label.box.centre
        if not (0 <= x <= width and 0 <= y <= height):
            raise UserError(
                f"{label.where}: box must lie in the picture of {path.name} ({width} x {height} px), got "
                f"x, y, w, h = {tuple(round(value, 2) for value in label.box)}"
            )
