"""Where the heat is highest: the places a network points at, refined below the cell."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor

from canton.track.boxes import Box

Floats = NDArray[np.floating[Any]]
Indices = NDArray[np.int64]

FLOOR = 1e-3
"""Heat below this is taken for this: the logarithm of almost nothing is all noise."""
LARGEST = 1e4
"""Sizes are cut off here (px), so that a network gone astray cannot name an infinite box."""


class Peak(NamedTuple):
    """A local maximum of a heat map.

    Args:
        box: the box centred on it, in px of the frame.
        score: its heat, in [0, 1].
    """

    box: Box
    score: float


def find_peaks(
    heat: Tensor,
    *,
    stride: float,
    offset: float,
    threshold: float = 0.5,
    most: int = 20,
    sizes: Tensor | None = None,
    radius: int = 2,
) -> list[Peak]:
    """The local maxima of a heat map, the hottest first.

    A cell is one if it reaches `threshold` and none hotter lies within `radius` cells of it in x and in y; of
    several equal ones so close together one stays. Its place is refined by a parabola through the logarithm
    of the heat, which is exact for a Gaussian spot.

    heat: (h, w), in [0, 1]; a Tensor of any kind, on any device. stride: px from one cell to the next.
    offset: px from the frame's left edge, and from its upper, to the centre of cell (0, 0). most: how many at
    most. sizes: (2, h, w), width and height in px; without it every peak is a square of two cells.

    Raises: ValueError if heat or sizes has another shape, or a number is out of its range.
    """
    if heat.ndim != 2:
        raise ValueError(f"heat has shape {tuple(heat.shape)}: it is (height, width)")
    _check(heat, threshold, most, sizes, radius)
    values = _numpy(heat)
    rows, columns, patches = _maxima(values, threshold, most, radius)
    return _peaks(rows, columns, np.log(patches.clip(FLOOR)), stride, offset, _at(sizes, rows, columns))


def peaks_of(
    maps: Tensor,
    *,
    stride: float,
    offset: float,
    threshold: float = 0.5,
    most: int = 20,
    radius: int = 2,
) -> list[Peak]:
    """`find_peaks` for what a tracking network puts out: heat as logits, sizes as logarithms.

    maps: (3 or more, h, w): the logit of the heat, the logarithms of width and height in px; what follows
    is not looked at.

    Raises: ValueError if maps has another shape, or a number is out of its range.
    """
    if maps.ndim != 3 or maps.shape[0] < 3:
        raise ValueError(f"maps has shape {tuple(maps.shape)}: it is (3 or more, height, width)")
    _check(maps[0], threshold, most, None, radius)
    # Heat is worked out at the peaks alone; and heats that both round to 1 still differ as logits.
    least = math.log(threshold / (1 - threshold)) if threshold < 1 else math.inf
    rows, columns, patches = _maxima(_numpy(maps[0]), least, most, radius)
    log_heat = -np.logaddexp(0, -patches)
    log_sizes = _at(maps[1:3], rows, columns)
    return _peaks(
        rows,
        columns,
        log_heat.clip(math.log(FLOOR)),
        stride,
        offset,
        None if log_sizes is None else np.exp(log_sizes.clip(max=math.log(LARGEST))),
    )


def _check(heat: Tensor, threshold: float, most: int, sizes: Tensor | None, radius: int) -> None:
    if not FLOOR <= threshold <= 1:
        raise ValueError(f"threshold is {threshold}: it lies between {FLOOR} and 1")
    if most < 1 or radius < 1:
        raise ValueError(f"most is {most} and radius {radius}: they are whole numbers of at least 1")
    if sizes is not None and sizes.shape != (2, *heat.shape):
        raise ValueError(f"sizes has shape {tuple(sizes.shape)}: beside this heat it is {(2, *heat.shape)}")


def _maxima(values: Floats, least: float, most: int, radius: int) -> tuple[Indices, Indices, Floats]:
    """Rows and columns of the local maxima that reach `least`, the highest first, and the (n, 3, 3) values
    around each; beyond the border the map is mirrored, so that nothing is refined across it.

    Only cells that reach `least` are compared with their neighbours: they are few, where a maximum over every
    neighbourhood of the map costs as much as all the rest.
    """
    rows, columns = np.nonzero(values >= least)  # not where a value is NaN
    if not len(rows):  # as in most frames of an empty sky
        return rows, columns, np.empty((0, 3, 3))
    side = 2 * radius + 1
    around = sliding_window_view(np.pad(values, radius, constant_values=-np.inf), (side, side))
    highest = values[rows, columns] >= around[rows, columns].max((1, 2))
    rows, columns = rows[highest], columns[highest]
    order = np.argsort(-values[rows, columns], kind="stable")
    chosen = _one_of_equals(rows[order], columns[order], radius, most)
    rows, columns = rows[order][chosen], columns[order][chosen]
    near = sliding_window_view(np.pad(values, 1, mode="reflect"), (3, 3))
    return rows, columns, near[rows, columns].astype(np.float64)


def _peaks(
    rows: Indices, columns: Indices, log_heat: Floats, stride: float, offset: float, sizes: Floats | None
) -> list[Peak]:
    """log_heat: (n, 3, 3). sizes: (2, n), px."""
    dy, dx = _refine(log_heat)
    sides = np.full((2, len(rows)), 2.0 * stride) if sizes is None else sizes
    sides = np.nan_to_num(sides, nan=2.0 * stride).clip(1.0, LARGEST)
    centres = np.stack([offset + stride * (columns + dx), offset + stride * (rows + dy)])
    boxes = np.concatenate([centres - sides / 2, sides]).T.tolist()
    scores = np.exp(log_heat[:, 1, 1]).tolist()
    return [Peak(Box(*box), score) for box, score in zip(boxes, scores, strict=True)]


def _at(sizes: Tensor | None, rows: Indices, columns: Indices) -> Floats | None:
    if sizes is None or not len(rows):
        return None
    return _numpy(sizes)[:, rows, columns].astype(np.float64)


def _numpy(values: Tensor) -> Floats:
    numbers: Floats = values.detach().float().cpu().numpy()
    return numbers


def _one_of_equals(rows: Indices, columns: Indices, radius: int, most: int) -> list[int]:
    """Places in the list, highest first, of which no two are within `radius`.

    Only equal maxima can be so close: a flat top, which a saturated network makes.
    """
    chosen: list[int] = []
    for k in range(len(rows)):
        near = (abs(rows[k] - rows[i]) <= radius and abs(columns[k] - columns[i]) <= radius for i in chosen)
        if not any(near):
            chosen.append(k)
        if len(chosen) == most:
            break
    return chosen


def _refine(log_heat: Floats) -> tuple[Floats, Floats]:
    """How far, in cells, in y and in x, the top of a parabola lies from each cell: in [-0.5, 0.5].

    The three rows (columns) around the cell are averaged first, weighted by their heat, which halves what
    noise does to a broad spot.
    """
    weight = np.exp(log_heat)
    along_y = (log_heat * weight).sum(2) / weight.sum(2)
    along_x = (log_heat * weight).sum(1) / weight.sum(1)
    return _top(along_y), _top(along_x)


def _top(values: Floats) -> Floats:
    """Of the parabola through (-1, a), (0, b), (1, c); 0 where it has none."""
    before, at, after = values.T
    bend = before - 2 * at + after
    top = np.divide(before - after, 2 * bend, out=np.zeros_like(bend), where=bend < 0)
    shift: Floats = top.clip(-0.5, 0.5)
    return shift
