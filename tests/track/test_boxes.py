"""The box type."""

from __future__ import annotations

import pytest

from canton.track.boxes import Box


def test_centre_and_corners() -> None:
    box = Box.from_centre(13, 22.5, 6, 5)
    assert box == (10, 20, 6, 5)
    assert box.centre == (13, 22.5)
    assert box.xyxy == (10, 20, 16, 25)


def test_scaled() -> None:
    assert Box(10, 20, 6, 5).scaled(1.5) == (15, 30, 9, 7.5)


@pytest.mark.parametrize(
    ("other", "iou"),
    [
        (Box(0, 0, 4, 2), 1.0),
        (Box(2, 0, 4, 2), 4 / 12),
        (Box(1, 1, 2, 4), 2 / 14),
        (Box(4, 0, 4, 2), 0.0),
        (Box(9, 9, 4, 2), 0.0),
        (Box(1, 1, 0, 0), 0.0),
    ],
)
def test_iou(other: Box, iou: float) -> None:
    box = Box(0, 0, 4, 2)
    assert box.iou(other) == pytest.approx(iou)
    assert other.iou(box) == pytest.approx(iou)


def test_iou_of_two_empty_boxes() -> None:
    assert Box(1, 1, 0, 0).iou(Box(1, 1, 0, 0)) == 0.0
