"""Peaks of a heat map, refined below the size of a cell."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor

from canton.errors import UserError
from canton.track.boxes import Box

Floats = NDArray[np.floating[Any]]
Indices = NDArray[np.int64]

MIN_SCORE = 1e-3
"""Scores are clipped from below to this value, because the logarithm of a smaller score is mostly noise."""
MAX_SIDE_PX = 1e4
"""Largest width and height of a box."""


class Peak(NamedTuple):
    """A local maximum of a heat map.

    Args:
        box: the box centred on it, in px of the frame.
        score: its value in the heat map, in [0, 1].
    """

    box: Box
    score: float


def find_peaks(
    heatmap: Tensor,
    *,
    stride: float,
    offset: float,
    threshold: float = 0.5,
    max_peaks: int = 20,
    sizes: Tensor | None = None,
    radius: int = 2,
) -> list[Peak]:
    """Return the local maxima of a heat map, highest score first.

    A cell is a local maximum if its score reaches `threshold` and no cell within `radius` in x and y is
    higher. Of equal cells within `radius` one is returned. A parabola through the logarithm of the scores
    refines the position, which is exact for a Gaussian.

    Args:
        heatmap: (h, w), in [0, 1].
        stride: px from one cell to the next.
        offset: px from the left (upper) edge of the frame to the centre of cell (0, 0).
        threshold: lowest score, in [0.001, 1].
        max_peaks: largest number of peaks.
        sizes: (2, h, w), width and height in px. None: every box is a square of two cells.
        radius: in cells.

    Raises:
        ValueError: a shape is wrong, or a number is out of range.
    """
    if heatmap.ndim != 2:
        raise ValueError(f"heatmap must have shape (height, width), got {tuple(heatmap.shape)}")
    _check(heatmap, threshold, max_peaks, sizes, radius)
    rows, columns, patches = _maxima(_numpy(heatmap), threshold, max_peaks, radius)
    log_scores = np.log(patches.clip(MIN_SCORE))
    return _peaks(rows, columns, log_scores, stride, offset, _values_at(sizes, rows, columns))


def decode_peaks(
    maps: Tensor,
    *,
    stride: float,
    offset: float,
    threshold: float = 0.5,
    max_peaks: int = 20,
    radius: int = 2,
) -> list[Peak]:
    """Return the peaks of a model's output maps; see `find_peaks`.

    Args:
        maps: (3 or more, h, w): the logit of the heat map, then the logarithms of width and height in px.
            Further channels are ignored.

    Raises:
        ValueError: a shape is wrong, or a number is out of range.
        UserError: a score is not finite.
    """
    if maps.ndim != 3 or maps.shape[0] < 3:
        raise ValueError(f"maps must have shape (3 or more, height, width), got {tuple(maps.shape)}")
    _check(maps[0], threshold, max_peaks, None, radius)
    if not bool(maps[0].isfinite().all()):
        raise UserError("the heat map must be finite, got NaN or infinity: the model's weights are damaged")
    # Maxima are searched in the logits: the sigmoid is then taken at the peaks only, and two scores that both
    # round to 1 still differ.
    min_logit = math.log(threshold / (1 - threshold)) if threshold < 1 else math.inf
    rows, columns, patches = _maxima(_numpy(maps[0]), min_logit, max_peaks, radius)
    log_scores = -np.logaddexp(0, -patches)
    log_sizes = _values_at(maps[1:3], rows, columns)
    return _peaks(
        rows,
        columns,
        log_scores.clip(math.log(MIN_SCORE)),
        stride,
        offset,
        None if log_sizes is None else np.exp(log_sizes.clip(max=math.log(MAX_SIDE_PX))),
    )


def _check(heatmap: Tensor, threshold: float, max_peaks: int, sizes: Tensor | None, radius: int) -> None:
    if not MIN_SCORE <= threshold <= 1:
        raise ValueError(f"threshold must be in [{MIN_SCORE}, 1], got {threshold}")
    if max_peaks < 1 or radius < 1:
        raise ValueError(f"max_peaks and radius must be >= 1, got {max_peaks} and {radius}")
    if sizes is not None and sizes.shape != (2, *heatmap.shape):
        raise ValueError(f"sizes must have shape {(2, *heatmap.shape)}, got {tuple(sizes.shape)}")


def _maxima(values: Floats, threshold: float, max_peaks: int, radius: int) -> tuple[Indices, Indices, Floats]:
    """Return rows and columns of the local maxima, highest first, and the (n, 3, 3) patches around them.

    The map is mirrored at its border. Only the few cells that reach `threshold` are compared with their
    neighbours, which is faster than a maximum filter over the whole map.
    """
    rows, columns = np.nonzero(values >= threshold)  # false for NaN
    if not len(rows):  # the usual case
        return rows, columns, np.empty((0, 3, 3))
    side = 2 * radius + 1
    windows = sliding_window_view(np.pad(values, radius, constant_values=-np.inf), (side, side))
    is_maximum = values[rows, columns] >= windows[rows, columns].max((1, 2))
    rows, columns = rows[is_maximum], columns[is_maximum]
    order = np.argsort(-values[rows, columns], kind="stable")
    chosen = _suppress_equal(rows[order], columns[order], radius, max_peaks)
    rows, columns = rows[order][chosen], columns[order][chosen]
    patches = sliding_window_view(np.pad(values, 1, mode="reflect"), (3, 3))
    return rows, columns, patches[rows, columns].astype(np.float64)


def _peaks(
    rows: Indices, columns: Indices, log_scores: Floats, stride: float, offset: float, sizes: Floats | None
) -> list[Peak]:
    """Return the peaks of (n, 3, 3) log scores; sizes: (2, n), in px."""
    dy, dx = _refine(log_scores)
    sides = np.full((2, len(rows)), 2.0 * stride) if sizes is None else sizes
    sides = np.nan_to_num(sides, nan=2.0 * stride).clip(1.0, MAX_SIDE_PX)
    centres = np.stack([offset + stride * (columns + dx), offset + stride * (rows + dy)])
    boxes = np.concatenate([centres - sides / 2, sides]).T.tolist()
    scores = np.exp(log_scores[:, 1, 1]).tolist()
    return [Peak(Box(*box), score) for box, score in zip(boxes, scores, strict=True)]


def _values_at(maps: Tensor | None, rows: Indices, columns: Indices) -> Floats | None:
    if maps is None or not len(rows):
        return None
    return _numpy(maps)[:, rows, columns].astype(np.float64)


def _numpy(values: Tensor) -> Floats:
    numbers: Floats = values.detach().float().cpu().numpy()
    return numbers


def _suppress_equal(rows: Indices, columns: Indices, radius: int, max_peaks: int) -> list[int]:
    """Return the indices of maxima of which no two are within `radius`.

    Only equal maxima can be that close, as on the flat top of a saturated heat map.
    """
    chosen: list[int] = []
    for k in range(len(rows)):
        near = (abs(rows[k] - rows[i]) <= radius and abs(columns[k] - columns[i]) <= radius for i in chosen)
        if not any(near):
            chosen.append(k)
        if len(chosen) == max_peaks:
            break
    return chosen


def _refine(log_scores: Floats) -> tuple[Floats, Floats]:
    """Return the distance in y and x, in cells, from each cell to the top of a parabola, in [-0.5, 0.5].

    The three rows (columns) are averaged, weighted by their score. This halves the effect of noise on a
    broad peak.
    """
    weight = np.exp(log_scores)
    along_y = (log_scores * weight).sum(2) / weight.sum(2)
    along_x = (log_scores * weight).sum(1) / weight.sum(1)
    return _vertex(along_y), _vertex(along_x)


def _vertex(values: Floats) -> Floats:
    """Return the vertex of the parabola through (-1, a), (0, b), (1, c), or 0 if it has no maximum."""
    before, at, after = values.T
    curvature = before - 2 * at + after
    vertex = np.divide(before - after, 2 * curvature, out=np.zeros_like(curvature), where=curvature < 0)
    shift: Floats = vertex.clip(-0.5, 0.5)
    return shift
