"""The types that every label reader returns, and shared functions."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from canton.errors import UserError
from canton.io.atomic import os_error_reason
from canton.track.boxes import Box

MAX_FRAME = 10**8
"""Largest number of a frame."""


@dataclass(frozen=True)
class Label:
    """One box in one frame.

    Attributes:
        frame: number of the frame, from 0.
        box: in px of the frame. A box of size 0 is a point: the size is unknown.
        track: number of the object, 0 if unknown.
        class_name: class of the object in lower case, such as "drone"; "" if unknown.
        where: the file and the line that it was read from, for messages.
    """

    frame: int
    box: Box
    track: int
    class_name: str
    where: str = field(default="", compare=False)


class LabelledFrames(NamedTuple):
    """The frames that somebody labelled. In the others there may be objects without a box.

    Attributes:
        ranges: first and last frame of each range. None: all frames.
        every: of the ranges, only every n-th frame counted from the first of its range (None: from 0).
    """

    ranges: tuple[tuple[int, int], ...] | None = None
    every: int = 1

    def has(self, frame: int) -> bool:
        """Return whether a frame is labelled."""
        if self.ranges is None:
            return frame % self.every == 0
        return any(
            first <= frame <= last and (frame - first) % self.every == 0 for first, last in self.ranges
        )

    @classmethod
    def of(cls, frames: Collection[int]) -> LabelledFrames:
        """Return exactly these frames."""
        ranges: list[tuple[int, int]] = []
        for frame in sorted(set(frames)):
            if ranges and frame == ranges[-1][1] + 1:
                ranges[-1] = (ranges[-1][0], frame)
            else:
                ranges.append((frame, frame))
        return cls(tuple(ranges))

    @classmethod
    def parse(cls, text: str, every: int = 1) -> LabelledFrames:
        """Return the frames of a text such as "0-99 150 200-299"; "": all.

        Raises:
            ValueError: the text is not of this form.
        """
        if every < 1:
            raise ValueError(f"every must be >= 1, got {every}")
        ranges = []
        for part in text.replace(",", " ").split():
            found = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part)
            if found is None or int(found[2] or found[1]) < int(found[1]):
                raise ValueError(f"labelled frames must be ranges such as 0-99 150-199, got {text!r}")
            ranges.append((int(found[1]), int(found[2] or found[1])))
        return cls(tuple(ranges) or None, every)

    def __str__(self) -> str:
        return " ".join(f"{a}-{b}" if b > a else f"{a}" for a, b in self.ranges or ())


ALL_FRAMES = LabelledFrames()


class ClipLabels(NamedTuple):
    """The labels of a clip.

    Attributes:
        name: of the clip, without a suffix.
        class_name: class of the clip in lower case: that of splits.csv, else the most frequent of its labels.
        modality: such as "IR" or "V"; "" if unknown.
        split: such as "train"; "" if unknown.
        labels: in the order of their frames.
        columns: every cell of the clip's row of splits.csv, such as "scene" and "distance".
        labelled: the frames that somebody labelled.
    """

    name: str
    class_name: str
    modality: str
    split: str
    labels: tuple[Label, ...]
    columns: Mapping[str, str] = MappingProxyType({})
    labelled: LabelledFrames = ALL_FRAMES

    @classmethod
    def of(
        cls,
        name: str,
        labels: Iterable[Label],
        modality: str = "",
        labelled: LabelledFrames = ALL_FRAMES,
    ) -> ClipLabels:
        """Return the labels of a clip, sorted by frame, with the most frequent class."""
        ordered = tuple(sorted(labels, key=lambda label: label.frame))
        classes = [label.class_name for label in ordered if label.class_name]
        class_name = max(sorted(set(classes)), key=classes.count, default="")
        return cls(name, class_name, modality, "", ordered, labelled=labelled)


class ReadSettings(NamedTuple):
    """What a label file may leave unsaid.

    Attributes:
        clip: name of the clip, for a format of one clip. "": from the file's name.
        class_name: class of every object, for a format without classes.
        names: class names by number, for formats with numbers. (): from a file beside the labels.
        size: (width, height) of the frames in px, for formats with relative values. None: unknown.
        first_frame: number that the format's own files give the first frame.
    """

    clip: str = ""
    class_name: str = ""
    names: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    first_frame: int = 0


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


def checked_point(x: float, y: float) -> Box:
    """Return a box of size 0.

    Raises:
        ValueError: a number is not finite.
    """
    if not math.isfinite(x + y):
        raise ValueError(f"point must be finite, got x, y = {(x, y)}")
    return Box(x, y, 0.0, 0.0)


def checked_frame(number: float, first: int = 0) -> int:
    """Return the number of a frame, from 0.

    Args:
        number: as the file has it.
        first: number of the first frame in the file.

    Raises:
        ValueError: it is not an integer, or is below `first`.
    """
    if not (first <= number <= MAX_FRAME and number == int(number)):
        raise ValueError(f"frame must be an integer >= {first}, got {number:g}")
    return int(number) - first


def as_number(value: Any) -> float:
    """Return a number of a parsed file.

    Raises:
        ValueError: it is not a finite number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"expected a number, got {value!r:.60}")
    try:
        number = float(value)
    except OverflowError as error:
        raise ValueError(f"expected a finite number, got {value!r:.60}") from error
    if not math.isfinite(number):
        raise ValueError(f"expected a finite number, got {value!r:.60}")
    return number


def frame_of_name(name: str) -> tuple[str, int] | None:
    """Split the name of an image into that of its clip and the number at its end: "A_0007" -> ("A", 7)."""
    found = re.fullmatch(r"(.*?)[ _.-]*(\d{1,9})", name, re.DOTALL)
    return (found[1], int(found[2])) if found else None


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
        raise UserError(f"{path} is not UTF-8 text: labels are .csv, .txt, .json or .xml") from error
