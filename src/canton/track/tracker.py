"""Tracking: peaks of consecutive frames are linked into tracks with constant ids.

C-BIoU of the package `trackers` does the linking. A Kalman filter predicts each box, and boxes are assigned
to predictions at the least total cost. Boxes are enlarged before their IoU is taken, because the boxes of a
small fast object do not overlap from frame to frame. A peak below the threshold can continue a track but not
start one. `benchmarks/track_linking.py` compares C-BIoU with ByteTrack and OC-SORT.

Source: Yang et al. 2022, arXiv:2211.14317 (C-BIoU); Zhang et al. 2021, arXiv:2110.06864 (low scores).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from canton.errors import require
from canton.track.boxes import Box
from canton.track.peaks import Peak

BUFFER_RATIOS = (1.0, 2.0)
"""Enlargement of a box on each side, in box widths (heights), for peaks above and below the threshold."""
MIN_IOU = 0.05
"""Lowest IoU of two enlarged boxes of one object."""
LOST_TRACK_SECONDS = 1.0
"""Time after which a track without a detection ends."""


class Track(NamedTuple):
    """A tracked object in one frame.

    Args:
        id: number of the track, from 1, constant over the video.
        box: box in px of the frame.
        score: score of its peak, in [0, 1].
        age: frames in which it was detected so far.
        moving: whether it left its place in the scene within the last two seconds.
        speed: speed against the scene, in px/s.
    """

    id: int
    box: Box
    score: float
    age: int
    moving: bool = False
    speed: float = 0.0


class Tracker:
    """A tracker that links peaks into tracks.

    Args:
        fps: frames per second, that is calls of `update` per second.
        threshold: peaks with a lower score continue tracks but do not start them. The second peak of an
            object starts its track.

    Raises:
        ValueError: fps is not positive and finite.
        MissingExtra: the package `trackers` is not installed.
    """

    def __init__(self, fps: float, *, threshold: float = 0.0) -> None:
        if not 0 < fps < float("inf"):
            raise ValueError(f"fps must be positive and finite, got {fps}")
        # imported here because it takes about a second
        self._detections = require("supervision", extra="track").Detections
        trackers = require("trackers", extra="track")
        self._linker = trackers.CBIoUTracker(
            lost_track_buffer=round(30 * LOST_TRACK_SECONDS),  # in units of 1/30 s at every frame rate
            frame_rate=fps,
            track_activation_threshold=threshold,
            high_conf_det_threshold=threshold,
            minimum_consecutive_frames=2,
            instant_first_frame_activation=False,
            minimum_iou_threshold_first_assoc=MIN_IOU,
            minimum_iou_threshold_second_assoc=MIN_IOU,
            minimum_iou_threshold_unconfirmed_assoc=MIN_IOU,
            buffer_ratio_first=BUFFER_RATIOS[0],
            buffer_ratio_second=BUFFER_RATIOS[1],
        )
        self._first_id = 1  # id of the linker's track 0
        self._last_id = 0
        self._ages: dict[int, int] = {}

    def update(self, peaks: Sequence[Peak]) -> list[Track]:
        """Return the tracks of this frame, by id. Call it for every frame, with or without peaks."""
        linked = self._linker.update(
            self._detections(
                xyxy=np.array([peak.box.xyxy for peak in peaks], dtype=np.float64).reshape(-1, 4),
                confidence=np.array([peak.score for peak in peaks], dtype=np.float64),
                class_id=np.arange(len(peaks)),  # index of the peak: the linker changes the order
            )
        )
        tracks = []
        for index, number in zip(linked.class_id if len(linked) else (), linked.tracker_id, strict=True):
            if number < 0:
                continue
            track_id = self._first_id + int(number)
            self._ages[track_id] = self._ages.get(track_id, 1) + 1  # its first peak had no id yet
            self._last_id = max(self._last_id, track_id)
            peak = peaks[int(index)]
            tracks.append(Track(track_id, peak.box, peak.score, self._ages[track_id]))
        self._drop_ended_tracks()
        return sorted(tracks)

    def reset(self) -> None:
        """End every track, as at a cut. Later tracks get new ids."""
        self._linker.reset()
        self._first_id = self._last_id + 1
        self._ages.clear()

    def _drop_ended_tracks(self) -> None:
        """Drop the ages of ended tracks, so that memory use is constant."""
        if len(self._ages) > 2 * len(self._linker.tracks):
            active = {self._first_id + int(track.tracker_id) for track in self._linker.tracks}
            self._ages = {track_id: age for track_id, age in self._ages.items() if track_id in active}
