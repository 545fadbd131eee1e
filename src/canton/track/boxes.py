"""Boxes in pixels of the original frame."""

from __future__ import annotations

from typing import NamedTuple


class Box(NamedTuple):
    """x, y the upper left corner, w, h width and height, in px of the frame."""

    x: float
    y: float
    w: float
    h: float

    @property
    def centre(self) -> tuple[float, float]:
        """Its middle, in px."""
        return self.x + self.w / 2, self.y + self.h / 2


class Named(NamedTuple):
    """A box (px) and what is in it, such as "drone"."""

    kind: str
    box: Box
