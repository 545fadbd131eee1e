"""The types that every label reader returns, and shared functions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from canton.errors import UserError
from canton.io.atomic import os_error_reason
from canton.track.boxes import Box


class Label(NamedTuple):
    """One box in one frame.

    Attributes:
        frame: number of the frame, from 0.
        box: in px of the frame.
        track: number of the object, 0 if unknown.
        class_name: class of the object in lower case, such as "drone"; "" if unknown.
    """

    frame: int
    box: Box
    track: int
    class_name: str


class ClipLabels(NamedTuple):
    """The labels of a clip.

    Attributes:
        name: of the clip, without a suffix.
        class_name: class of the clip in lower case: that of splits.csv, else the most frequent of its labels.
        modality: such as "IR" or "V"; "" if unknown.
        split: such as "train"; "" if unknown.
        labels: in the order of their frames.
        columns: every cell of the clip's row of splits.csv, such as "scene" and "distance".
    """

    name: str
    class_name: str
    modality: str
    split: str
    labels: tuple[Label, ...]
    columns: Mapping[str, str] = MappingProxyType({})

    @classmethod
    def of(cls, name: str, labels: list[Label], modality: str = "") -> ClipLabels:
        """Return the labels of a clip, sorted by frame, with the most frequent class."""
        classes = [label.class_name for label in labels if label.class_name]
        class_name = max(sorted(set(classes)), key=classes.count, default="")
        return cls(name, class_name, modality, "", tuple(sorted(labels, key=lambda label: label.frame)))


def normalise_class(name: str) -> str:
    """Return a class name in canonical form: " Drone" becomes "drone"."""
    return name.strip().lower()


def checked_box(x: float, y: float, width: float, height: float) -> Box:
    """Return a box.

    Raises:
        ValueError: a number is not finite, or a size is not above 0.
    """
    if not (width > 0 and height > 0 and math.isfinite(x + y + width + height)):
        raise ValueError(f"box must be finite with a size > 0, got x, y, w, h = {(x, y, width, height)}")
    return Box(x, y, width, height)


def read_text(path: Path) -> str:
    """Return the content of a text file.

    Raises:
        UserError: it cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot read {path}: {os_error_reason(error)}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: labels are .csv, .txt or .json") from error
