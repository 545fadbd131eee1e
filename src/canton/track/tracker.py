"""Peaks of one frame after the other, linked into tracks that keep their number.

C-BIoU, from the package `trackers`, does the linking: a Kalman filter foretells each box, the boxes found are
assigned to the foretold ones at the least total cost, and a weak peak may carry a track on but not begin one.
Boxes are grown before their overlap is taken: a box of ten pixels that moved eleven has none otherwise. Of
ByteTrack, OC-SORT and C-BIoU with plain, buffered and distance-aware overlap it changed numbers least on the
labels of real clips, while nearly every box has one; benchmarks/track_linking.py measures it.

Source: Yang et al. 2022, arXiv:2211.14317 (C-BIoU); Zhang et al. 2021, arXiv:2110.06864 (weak detections).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from canton.errors import require
from canton.track.boxes import Box
from canton.track.peaks import Peak

BUFFERS = (1.0, 2.0)
"""How many widths (heights) a box is grown on each side before overlaps are taken; the second: a weak one."""
LEAST_OVERLAP = 0.05
"""Of two grown boxes that may be the same thing."""
MEMORY_SECONDS = 1.0
"""How long a track that is not seen is kept."""


class Tracked(NamedTuple):
    """A thing in this frame. id: its number, from 1, the same in every frame of the video. box: where it is,
    px. score: of its peak, in [0, 1]. age: in how many frames it was seen so far.
    """

    id: int
    box: Box
    score: float
    age: int


class Tracker:
    """Links peaks into tracks.

    fps: frames a second that `update` will be called for. threshold: peaks that score less carry a track on
    but begin none; the second peak of a thing makes a track of it.

    Raises: ValueError for an fps that is no rate; MissingExtra without the package `trackers`.
    """

    def __init__(self, fps: float, *, threshold: float = 0.0) -> None:
        if not 0 < fps < float("inf"):
            raise ValueError(f"fps is {fps}: it is a positive number")
        # About a second of imports, most of it drawing tools this has no use for: paid by those who track.
        self._detections = require("supervision", extra="track").Detections
        trackers = require("trackers", extra="track")
        self._linker = trackers.CBIoUTracker(
            lost_track_buffer=round(30 * MEMORY_SECONDS),  # in thirtieths of a second, whatever the fps
            frame_rate=fps,
            track_activation_threshold=threshold,
            high_conf_det_threshold=threshold,
            minimum_consecutive_frames=2,
            instant_first_frame_activation=False,
            minimum_iou_threshold_first_assoc=LEAST_OVERLAP,
            minimum_iou_threshold_second_assoc=LEAST_OVERLAP,
            minimum_iou_threshold_unconfirmed_assoc=LEAST_OVERLAP,
            buffer_ratio_first=BUFFERS[0],
            buffer_ratio_second=BUFFERS[1],
        )
        self._before = 0  # ids given out before the last reset
        self._ages: dict[int, int] = {}
        self._highest = 0

    def update(self, peaks: Sequence[Peak]) -> list[Tracked]:
        """The tracks seen in this frame, by id. Call it for every frame, with or without peaks."""
        linked = self._linker.update(
            self._detections(
                xyxy=np.array([peak.box.xyxy for peak in peaks], dtype=np.float64).reshape(-1, 4),
                confidence=np.array([p.score for p in peaks], dtype=np.float64),
                class_id=np.arange(len(peaks)),  # which peak it was: the linker changes the order
            )
        )
        seen = []
        for index, number in zip(linked.class_id if len(linked) else (), linked.tracker_id, strict=True):
            if number < 0:
                continue
            track = self._before + int(number) + 1
            self._ages[track] = self._ages.get(track, 1) + 1  # its first peak had no number yet
            self._highest = max(self._highest, track)
            peak = peaks[int(index)]
            seen.append(Tracked(track, peak.box, peak.score, self._ages[track]))
        self._forget()
        return sorted(seen)

    def reset(self) -> None:
        """Forget every track, as at a cut. Numbers go on: none is given twice."""
        self._linker.reset()
        self._before = self._highest
        self._ages.clear()

    def _forget(self) -> None:
        """Drop the ages of tracks that are no more, so that a year of watching takes no more memory."""
        if len(self._ages) > 2 * len(self._linker.tracks):
            alive = {self._before + int(track.tracker_id) + 1 for track in self._linker.tracks}
            self._ages = {track: age for track, age in self._ages.items() if track in alive}
