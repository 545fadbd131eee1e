"""Evaluation of what `canton track watch` prints: tracks over whole clips at their own frame rate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from canton.errors import require
from canton.track.data.dataset import Clip
from canton.track.metrics import (
    ANY,
    FramePrediction,
    Matcher,
    average_precision,
    centre_in_box,
    iou_at_least_half,
    match_peaks,
    score,
)
from canton.track.peaks import Peak
from canton.track.pipeline import StreamingModel, track_video
from canton.track.tracker import Track
from canton.track.video.reader import open_video
from canton.track.video.source import DEFAULT_FPS

MIN_HIT_SHARE = 0.5
"""A track is false if fewer of its boxes than this share hit a target."""


class ClipResult(NamedTuple):
    """The tracks of a clip and its truth.

    Args:
        clip: the clip.
        fps: frames per second of the video.
        frame_width: width of the frames in px.
        indices: number of each frame in the video.
        seconds: time of each frame.
        tracks: tracks of each frame.
        problem: one line on why reading stopped early, or None.
    """

    clip: Clip
    fps: float
    frame_width: int
    indices: list[int]
    seconds: list[float]
    tracks: list[list[Track]]
    problem: str | None = None

    def labelled(self) -> ClipResult:
        """Return the result without the frames that nobody labelled."""
        kept = [k for k, index in enumerate(self.indices) if self.clip.labelled.has(index)]
        return self._replace(
            indices=[self.indices[k] for k in kept],
            seconds=[self.seconds[k] for k in kept],
            tracks=[self.tracks[k] for k in kept],
        )

    def predictions(self) -> list[FramePrediction]:
        """Return the frames with the tracks' boxes as peaks, highest score first."""
        clip = self.clip
        return [
            FramePrediction(
                clip.name,
                clip.class_name,
                step,
                self.frame_width,
                clip.boxes_by_frame.get(index, ()),
                sorted((Peak(track.box, track.score) for track in tracks), key=lambda peak: -peak.score),
                clip.classes_at(index),
            )
            for step, (index, tracks) in enumerate(zip(self.indices, self.tracks, strict=True))
        ]


def watch_clip(model: StreamingModel, clip: Clip, *, threshold: float, width: int | None) -> ClipResult:
    """Run `model` over a whole clip, exactly as `canton track watch` does.

    Args:
        threshold: detection threshold, in [0.01, 1].
        width: resize wider frames to this width in px. None: never.

    Raises:
        UserError: the clip cannot be read, or its frames are too small for the model.
    """
    indices, seconds, tracks = [], [], []
    with open_video(clip.path) as video:
        fps = video.fps or DEFAULT_FPS
        with closing(track_video(model, video, fps=fps, threshold=threshold, width=width)) as results:
            for result in results:
                indices.append(result.frame.index)
                seconds.append(result.frame.seconds)
                tracks.append(result.tracks)
        return ClipResult(clip, fps, video.width, indices, seconds, tracks, video.problem)


def evaluate(
    results: Sequence[ClipResult], *, target_class: str, group_by: Sequence[str] = ()
) -> dict[str, Any]:
    """Measure the tracks of clips.

    Args:
        results: of `watch_clip`.
        target_class: class to detect; `canton.track.metrics.ANY`: every class.
        group_by: columns of splits.csv, such as "distance".

    Returns:
        all: the figures of `summarise` over all clips.
        kinds: the same by class of the clip.
        groups: the same by each column of `group_by` and its values.
        clips: the same for every clip, by name.
    """
    kinds = _grouped((one.clip.class_name or "unknown", one) for one in results)
    groups = {
        column: _grouped((one.clip.columns.get(column) or "none", one) for one in results)
        for column in group_by
    }

    def row(part: Sequence[ClipResult]) -> dict[str, Any]:
        return summarise(part, target_class=target_class)

    return {
        "all": row(results),
        "kinds": {name: row(part) for name, part in kinds.items()},
        "groups": {
            column: {name: row(part) for name, part in values.items()} for column, values in groups.items()
        },
        "clips": {one.clip.name: row([one]) for one in results},
    }


def summarise(results: Sequence[ClipResult], *, target_class: str) -> dict[str, Any]:
    """Return the figures of some clips.

    Returns:
        clips, frames, targets: their numbers. Frames that nobody labelled do not count. Targets are true
            boxes of the target class.
        f1, precision, recall: a track's centre hits a true box, which is enlarged to at least 8 px at a frame
            width of 320 px. None: there are no targets.
        box_f1: F1 at an intersection over union of 0.5.
        average_precision: of the boxes of all tracks, ordered by score.
        macro_f1: mean of F1 over the clips with a target.
        found: share of the clips with a target in which it is ever hit.
        seconds_to_first: median time from the first frame with a target to the first hit, over these clips.
            None: at least half of them have no hit.
        idf1, id_switches: of hits. hota: over intersections over union of 0.05 to 0.95. None: no clip with a
            target has known identities, that is a track number per box or at most one box in a frame.
        false_tracks_moving, false_tracks_still: tracks of which less than half the boxes hit, by whether they
            moved in the scene in half of their frames.
        still_false_frames: share of the frames with a box of a false track that is still.
        false_alarms_per_minute: false tracks per minute, in clips that never show a target. None: there are
            none.
        false_boxes_per_frame: boxes per frame in these clips.

    Source: Ristani et al. 2016, arXiv:1609.01775 (IDF1); Luiten et al. 2021, arXiv:2009.07736 (HOTA).
    """
    clips = [_ClipFigures(one.labelled(), target_class) for one in results]
    shown = [one for clip in clips for one in clip.predictions]
    with_target = [clip for clip in clips if clip.targets]
    empty = [clip for clip in clips if not clip.targets]
    targets = sum(clip.targets for clip in clips)
    scores = score(shown, 0.0, target_class=target_class)
    boxes = score(shown, 0.0, target_class=target_class, matcher=iou_at_least_half)
    firsts = sorted(clip.seconds_to_first for clip in with_target)
    median = firsts[len(firsts) // 2] if firsts else math.inf
    minutes = sum(clip.minutes for clip in empty)
    empty_frames = sum(len(clip.predictions) for clip in empty)
    still_frames = sum(clip.still_false_frames for clip in clips)

    def of_targets(value: float) -> float | None:
        return value if targets else None

    return {
        "clips": len(clips),
        "frames": len(shown),
        "targets": targets,
        "f1": of_targets(scores.f1),
        "precision": of_targets(scores.precision),
        "recall": of_targets(scores.recall),
        "box_f1": of_targets(boxes.f1),
        "average_precision": of_targets(average_precision(shown, target_class=target_class)),
        "macro_f1": float(np.mean([clip.f1 for clip in with_target])) if with_target else None,
        "found": float(np.mean([math.isfinite(first) for first in firsts])) if firsts else None,
        "seconds_to_first": median if math.isfinite(median) else None,
        **_identity([clip for clip in with_target if clip.ids is not None]),
        "false_tracks_moving": sum(len(clip.false_moving) for clip in clips),
        "false_tracks_still": sum(len(clip.false_still) for clip in clips),
        "still_false_frames": still_frames / len(shown) if shown else 0.0,
        "false_alarms_per_minute": sum(clip.false_tracks for clip in empty) / minutes if minutes else None,
        "false_boxes_per_frame": sum(len(one.peaks) for clip in empty for one in clip.predictions)
        / empty_frames
        if empty_frames
        else None,
    }


def points(results: Iterable[ClipResult]) -> dict[str, list[list[float]]]:
    """Return the centres of the tracks' boxes by clip: [frame, x, y, score], x and y in px."""
    return {
        one.clip.name: [
            [index, *(round(v, 2) for v in track.box.centre), round(track.score, 4)]
            for index, tracks in zip(one.indices, one.tracks, strict=True)
            for track in tracks
        ]
        for one in results
    }


class _ClipFigures:
    """The matches of one clip's tracks with its truth."""

    def __init__(self, result: ClipResult, target_class: str) -> None:
        self.predictions = result.predictions()
        self.minutes = len(result.indices) / result.fps / 60
        self.truth = [one.boxes_of(target_class) for one in self.predictions]
        self.targets = sum(map(len, self.truth))
        self.f1 = score(self.predictions, 0.0, target_class=target_class).f1
        self.tracks = result.tracks
        self.hit = centre_in_box(result.frame_width)
        self.ids = _identities(result, target_class)
        hits: dict[int, int] = {}
        shown: dict[int, int] = {}
        moved: dict[int, int] = {}
        first_target, self.seconds_to_first = math.inf, math.inf
        for seconds, truth, tracks in zip(result.seconds, self.truth, result.tracks, strict=True):
            ordered = sorted(tracks, key=lambda track: -track.score)
            matched = match_peaks([Peak(track.box, track.score) for track in ordered], truth, self.hit)
            if truth:
                first_target = min(first_target, seconds)
            if any(matched):
                self.seconds_to_first = min(self.seconds_to_first, seconds - first_target)
            for track, hit in zip(ordered, matched, strict=True):
                hits[track.id] = hits.get(track.id, 0) + hit
                shown[track.id] = shown.get(track.id, 0) + 1
                moved[track.id] = moved.get(track.id, 0) + track.moving
        false = {number for number in shown if hits[number] < MIN_HIT_SHARE * shown[number]}
        self.false_still = {number for number in false if moved[number] < 0.5 * shown[number]}
        self.false_moving = false - self.false_still
        self.false_tracks = len(false)
        self.still_false_frames = sum(
            any(track.id in self.false_still for track in tracks) for tracks in result.tracks
        )

    def similarities(self, matcher: Matcher | None) -> list[NDArray[np.float64]]:
        """Return (truth, tracks) per frame: whether a pair matches, or its intersection over union."""
        return [
            np.array(
                [[float(matcher(t.box, box)) if matcher else box.iou(t.box) for t in tracks] for box in truth]
            ).reshape(len(truth), len(tracks))
            for truth, tracks in zip(self.truth, self.tracks, strict=True)
        ]


def _identities(result: ClipResult, target_class: str) -> list[list[int]] | None:
    """Return the number of each true box of the target class per frame, or None if they are unknown."""
    clip = result.clip
    numbers: list[list[int]] = []
    for index in result.indices:
        classes = clip.classes_at(index)
        known = clip.tracks_by_frame.get(index, (0,) * len(classes))
        numbers.append([n for n, c in zip(known, classes, strict=True) if target_class in (c, ANY)])
    if all(number for here in numbers for number in here):
        return numbers
    return [[1] * len(here) for here in numbers] if max(map(len, numbers), default=0) <= 1 else None


def _identity(clips: Sequence[_ClipFigures]) -> dict[str, Any]:
    if not clips:
        return {"idf1": None, "id_switches": None, "hota": None}
    library = require("trackers.eval", extra="track")
    identity, clear, hota = [], [], []
    for clip in clips:
        truth = [np.array(ids, dtype=np.int64) for ids in clip.ids or ()]
        shown = [np.array([track.id for track in tracks], dtype=np.int64) for tracks in clip.tracks]
        hits = clip.similarities(clip.hit)
        identity.append(library.compute_identity_metrics(truth, shown, hits))
        clear.append(library.compute_clear_metrics(truth, shown, hits))
        hota.append(library.compute_hota_metrics(truth, shown, clip.similarities(None)))
    return {
        "idf1": library.aggregate_identity_metrics(identity)["IDF1"],
        "id_switches": library.aggregate_clear_metrics(clear)["IDSW"],
        "hota": library.aggregate_hota_metrics(hota)["HOTA"],
    }


def _grouped(results: Iterable[tuple[str, ClipResult]]) -> dict[str, list[ClipResult]]:
    groups: dict[str, list[ClipResult]] = {}
    for name, one in results:
        groups.setdefault(name, []).append(one)
    return dict(sorted(groups.items()))
