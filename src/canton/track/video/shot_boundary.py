"""Shot boundary detection."""

from __future__ import annotations

from collections import deque
from statistics import median

import numpy as np
from numpy.typing import NDArray

MIN_DIFFERENCE = 0.08
"""Lowest mean difference of two thumbnails at a cut; 1 is black against white."""
MIN_RATIO = 6.0
"""Lowest ratio of that difference to the median of the last frames. Camera motion raises the median."""
MIN_MEDIAN = 0.002
"""Lower limit of that median, for still images."""
HISTORY = 8
"""Number of frames in the median."""
THUMBNAIL_SIDE = 16


class ShotBoundaryDetector:
    """A detector of cuts that compares each frame's thumbnail with the previous one."""

    def __init__(self) -> None:
        self._previous: NDArray[np.float32] | None = None
        self._differences: deque[float] = deque(maxlen=HISTORY)

    def is_cut(self, pixels: NDArray[np.uint8]) -> bool:
        """Return whether a frame (H, W, 3) or (H, W, 1) starts a new shot. The first frame does."""
        thumbnail = _thumbnail(pixels)
        previous, self._previous = self._previous, thumbnail
        if previous is None:
            return True
        difference = float(np.abs(thumbnail - previous).mean())
        baseline = max(median(self._differences) if self._differences else 0.0, MIN_MEDIAN)
        cut = difference > max(MIN_DIFFERENCE, MIN_RATIO * baseline)
        if cut:
            self._differences.clear()
        else:
            self._differences.append(difference)
        return cut


def _thumbnail(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (side, side) in [0, 1]: means of sampled rows and columns of the green, or the only, channel."""
    side = THUMBNAIL_SIDE
    height, width, channels = pixels.shape
    rows = np.linspace(0, height - 1, side * 4).astype(int)
    columns = np.linspace(0, width - 1, side * 4).astype(int)
    sampled = pixels[rows[:, None], columns[None, :], channels // 2].astype(np.float32) / 255
    return np.asarray(sampled.reshape(side, 4, side, 4).mean((1, 3)), np.float32)
