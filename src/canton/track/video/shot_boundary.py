"""Where a video is cut: the picture there has nothing to do with the one before."""

from __future__ import annotations

from collections import deque
from statistics import median

import numpy as np
from numpy.typing import NDArray

LEAST = 0.08
"""Mean difference of two thumbnails, 1 for black against white, below which nothing is a cut."""
TIMES = 6.0
"""And it must be so many times the usual difference of late: a camera that pans changes all the time."""
CALM = 0.002
"""The usual difference of a picture in which hardly anything moves."""
LATE = 8
SIDE = 16


class CutFinder:
    """Compares each picture's thumbnail with that of the one before."""

    def __init__(self) -> None:
        self._before: NDArray[np.float32] | None = None
        self._late: deque[float] = deque(maxlen=LATE)

    def is_cut(self, pixels: NDArray[np.uint8]) -> bool:
        """Whether `pixels`, (H, W, 3) or (H, W, 1), begins a new shot; so does the first picture."""
        now = _thumbnail(pixels)
        before, self._before = self._before, now
        if before is None:
            return True
        difference = float(np.abs(now - before).mean())
        usual = max(median(self._late) if self._late else 0.0, CALM)
        cut = difference > max(LEAST, TIMES * usual)
        if cut:
            self._late.clear()
        else:
            self._late.append(difference)
        return cut


def _thumbnail(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(SIDE, SIDE), in [0, 1]: means of a few sampled rows and columns, of green (or all there is)."""
    height, width, channels = pixels.shape
    rows = np.linspace(0, height - 1, SIDE * 4).astype(int)
    columns = np.linspace(0, width - 1, SIDE * 4).astype(int)
    sampled = pixels[rows[:, None], columns[None, :], channels // 2].astype(np.float32) / 255
    return np.asarray(sampled.reshape(SIDE, 4, SIDE, 4).mean((1, 3)), np.float32)
