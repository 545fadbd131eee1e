"""Motion of tracks against the scene: the camera's own motion is estimated and removed."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from canton.errors import require
from canton.track.boxes import Box
from canton.track.tracker import Track

WIDTH = 320
"""The camera's motion is estimated on frames of at most this width, in px."""
MAX_FEATURES = 200
MIN_FEATURES = 8
"""With fewer features the camera counts as still."""
MEMORY_SECONDS = 2.0
"""A track moves if it left its place within this time."""
SPEED_SECONDS = 0.5
"""Speed is the distance over this time."""
MIN_SHIFT = 2.0
"""Smallest shift of a moving track, in px at a frame width of 320 px; errors of the places are below it."""
MIN_SHIFT_RATIO = 0.5
"""Smallest shift of a moving track, as a share of its size."""

Affine = NDArray[np.float64]
"""(2, 3): maps px of the frame before to px of this frame."""
STILL: Affine = np.eye(2, 3)


class CameraMotion:
    """An estimator of the camera's motion from frame to frame.

    Corners are followed by optical flow, and a similarity is fitted to most of them.

    Source: Lucas & Kanade 1981 (optical flow); Fischler & Bolles 1981 (RANSAC); both by OpenCV.
    """

    def __init__(self) -> None:
        self._previous: NDArray[np.uint8] | None = None

    def reset(self) -> None:
        """Forget the frame before, as at a cut."""
        self._previous = None

    def update(self, pixels: NDArray[np.uint8], objects: Iterable[Box] | None) -> Affine:
        """Return the motion from the frame before to this one.

        Args:
            pixels: (H, W, 3 or 1).
            objects: boxes in px of the frame before; corners in them are not used. None: no motion is
                needed, and none is estimated.
        """
        cv2 = require("cv2", extra="track")
        height, width = pixels.shape[:2]
        scale = max(1.0, width / WIDTH)
        size = (max(1, round(width / scale)), max(1, round(height / scale)))
        small = pixels if scale == 1 else cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR)
        gray = np.asarray(
            cv2.cvtColor(small, cv2.COLOR_RGB2GRAY) if small.ndim == 3 and small.shape[2] == 3 else small,
            np.uint8,
        ).reshape(size[1], size[0])
        previous, self._previous = self._previous, gray
        if objects is None or previous is None or previous.shape != gray.shape:
            return STILL
        motion = _similarity(previous, gray, [box.scaled(1 / scale) for box in objects])
        motion[:, 2] *= scale
        return motion


class SceneMotion:
    """The places of tracks relative to the scene, over the last seconds."""

    def __init__(self) -> None:
        self._camera = CameraMotion()
        self._places: dict[int, deque[tuple[float, NDArray[np.float64]]]] = {}
        self._boxes: list[Box] = []

    def reset(self) -> None:
        """Forget everything, as at a cut."""
        self._camera.reset()
        self._places.clear()
        self._boxes = []

    def update(self, pixels: NDArray[np.uint8], seconds: float, tracks: Sequence[Track]) -> list[Track]:
        """Return the tracks of a frame with `moving` and `speed`. Call it for every frame."""
        motion = self._camera.update(pixels, self._boxes if self._places else None)
        for track_id, places in list(self._places.items()):
            while places and seconds - places[0][0] > MEMORY_SECONDS:
                places.popleft()
            if not places:
                del self._places[track_id]
            for _, place in places:
                place[:] = motion[:, :2] @ place + motion[:, 2]
        self._boxes = [track.box for track in tracks]
        return [self._measure(track, seconds, pixels.shape[1]) for track in tracks]

    def _measure(self, track: Track, seconds: float, frame_width: int) -> Track:
        here = np.array(track.box.centre)
        places = self._places.setdefault(track.id, deque())
        shift = max((float(np.linalg.norm(here - place)) for _, place in places), default=0.0)
        size = math.sqrt(track.box.width * track.box.height)
        moving = shift > max(MIN_SHIFT_RATIO * size, MIN_SHIFT * frame_width / 320)
        recent = next(((t, p) for t, p in places if seconds - t <= SPEED_SECONDS + 1e-6), None)
        speed = 0.0
        if recent is not None and seconds > recent[0]:
            speed = float(np.linalg.norm(here - recent[1])) / (seconds - recent[0])
        places.append((seconds, here))
        return track._replace(moving=moving, speed=speed)


def _similarity(previous: NDArray[np.uint8], gray: NDArray[np.uint8], objects: Sequence[Box]) -> Affine:
    cv2 = require("cv2", extra="track")
    mask = np.full(previous.shape, 255, np.uint8)
    for box in objects:
        left, top, right, bottom = (round(edge) for edge in box.xyxy)
        mask[max(top - 2, 0) : max(bottom + 2, 0), max(left - 2, 0) : max(right + 2, 0)] = 0
    corners = cv2.goodFeaturesToTrack(previous, MAX_FEATURES, 0.01, 7, mask=mask)
    if corners is None or len(corners) < MIN_FEATURES:
        return np.eye(2, 3)
    followed, found, _ = cv2.calcOpticalFlowPyrLK(previous, gray, corners, None)
    known = found.ravel() == 1
    if known.sum() < MIN_FEATURES:
        return np.eye(2, 3)
    fitted, inliers = cv2.estimateAffinePartial2D(
        corners[known], followed[known], method=cv2.RANSAC, ransacReprojThreshold=1.0
    )
    if fitted is None or int(inliers.sum()) < MIN_FEATURES:
        return np.eye(2, 3)
    return np.asarray(fitted, np.float64)
