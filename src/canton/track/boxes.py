"""The box type."""

from __future__ import annotations

from typing import NamedTuple


class Box(NamedTuple):
    """An axis-aligned box in px of the source frame.

    Args:
        x: left edge.
        y: top edge.
        width: width.
        height: height.
    """

    x: float
    y: float
    width: float
    height: float

    @classmethod
    def from_centre(cls, x: float, y: float, width: float, height: float) -> Box:
        """Return the box whose centre is (x, y)."""
        return cls(x - width / 2, y - height / 2, width, height)

    @property
    def centre(self) -> tuple[float, float]:
        """The centre (x, y)."""
        return self.x + self.width / 2, self.y + self.height / 2

    @property
    def xyxy(self) -> tuple[float, float, float, float]:
        """The edges (left, top, right, bottom)."""
        return self.x, self.y, self.x + self.width, self.y + self.height

    def scaled(self, factor: float) -> Box:
        """Return the box in a frame that is resized by `factor`."""
        return Box(self.x * factor, self.y * factor, self.width * factor, self.height * factor)

    def iou(self, other: Box) -> float:
        """Return the intersection over union with `other`, in [0, 1]."""
        left, top, right, bottom = self.xyxy
        other_left, other_top, other_right, other_bottom = other.xyxy
        width = max(min(right, other_right) - max(left, other_left), 0.0)
        height = max(min(bottom, other_bottom) - max(top, other_top), 0.0)
        intersection = width * height
        union = self.width * self.height + other.width * other.height - intersection
        return intersection / union if union > 0 else 0.0


class LabelledBox(NamedTuple):
    """A box and the class of the object in it, such as "drone"."""

    class_name: str
    box: Box
