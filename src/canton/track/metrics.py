"""Detection metrics on annotated clips."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from canton.track.boxes import Box
from canton.track.data.degrade import degrade
from canton.track.data.frame_cache import CachedClip
from canton.track.model import MAPS, TrackModel
from canton.track.peaks import Peak, decode_peaks
from canton.track.video.preprocess import check_frame_size

WINDOW = 12
"""Frames per window. Each window starts from an empty state."""
ENLARGEMENT = 1.4
"""Scale of the second view of held-out clips, on which a threshold is chosen. Objects in a user's video can
be larger than in the few held-out clips, and near birds resemble drones."""
F_BETA = 0.5
"""Beta of `choose_threshold`: a false positive costs more than a missed object."""
MIN_SCORE = 0.05
"""Peaks below this score are discarded."""
MIN_BOX_PX = 8.0
"""Smallest side of a true box for a hit, in px at a frame width of 320 px."""
THRESHOLDS = tuple(round(0.08 + 0.02 * k, 2) for k in range(43))
"""Candidates of `choose_threshold`."""

ANY = "any"
"""Target class that stands for every class."""

Matcher = Callable[[Box, Box], bool]
"""(predicted, truth) -> whether the prediction counts as a hit."""


class FramePrediction(NamedTuple):
    """The peaks of one frame of a window, and its true boxes.

    Args:
        clip: name of the clip.
        class_name: class of the clip.
        step: index of the frame in its window, from 0.
        frame_width: width of the frame in px.
        truth: true boxes of every class.
        peaks: predicted peaks, highest score first.
        classes: class of every box of `truth`. None: `class_name` for all.
    """

    clip: str
    class_name: str
    step: int
    frame_width: int
    truth: tuple[Box, ...]
    peaks: list[Peak]
    classes: tuple[str, ...] | None = None

    def boxes_of(self, target_class: str) -> list[Box]:
        """Return the true boxes of `target_class` (`ANY`: all)."""
        if target_class == ANY:
            return list(self.truth)
        classes = (self.class_name,) * len(self.truth) if self.classes is None else self.classes
        return [box for box, name in zip(self.truth, classes, strict=True) if name == target_class]

    def peaks_above(self, threshold: float) -> list[Peak]:
        """Return the peaks whose score is at least `threshold`."""
        return [peak for peak in self.peaks if peak.score >= threshold]


class Counts(NamedTuple):
    """Counts over frames.

    Args:
        true_positives: peaks that match a true box of the target class.
        false_positives: all other peaks.
        positives: true boxes of the target class.
        false_positives_on_empty: peaks in frames without a target.
        empty_frames: frames without a target.
    """

    true_positives: int
    false_positives: int
    positives: int
    false_positives_on_empty: int
    empty_frames: int


class Scores(NamedTuple):
    """Precision, recall and F1 at a threshold; false_alarms: false positives per frame without a target."""

    threshold: float
    precision: float
    recall: float
    f1: float
    false_alarms: float


def predict_windows(
    model: TrackModel,
    clips: Iterable[CachedClip],
    *,
    hard: bool = False,
    window: int = WINDOW,
    every: int = 1,
    seed: int = 0,
) -> list[FramePrediction]:
    """Run `model` over consecutive windows of `clips`.

    Args:
        hard: reduce the contrast and add noise, see `canton.track.data.degrade`.
        window: frames per window.
        every: use every n-th window.
        seed: random seed of the noise.

    Returns:
        One prediction per labelled frame, in order.

    Raises:
        UserError: the frames are too small for the model.
    """
    device = next(model.parameters()).device
    predictions: list[FramePrediction] = []
    was_training = model.training
    model.eval()
    for k, clip in enumerate(clips):
        check_frame_size(model.architecture, *clip.frames.shape[1:3])
        rng = np.random.default_rng((seed, k))
        for start in range(0, len(clip.frames) - window + 1, window * every):
            boxes = clip.boxes[start : start + window]
            frames = np.array(clip.frames[start : start + window])  # a copy: the memory map is read-only
            if hard:
                frames = degrade(frames, boxes, rng)
            with torch.inference_mode():
                reset = _resets(clip, start, window)
                maps, _ = model(frames_to_tensor(frames[:, None]).to(device), None, reset)
            for t in range(window):
                if clip.labelled is not None and not clip.labelled[start + t]:
                    continue
                peaks = decode_peaks(
                    maps[t, 0, :MAPS].cpu(), stride=model.stride, offset=model.offset, threshold=MIN_SCORE
                )
                classes = clip.classes_at(start + t)
                width = frames.shape[2]
                predictions.append(
                    FramePrediction(clip.name, clip.class_name, t, width, boxes[t], peaks, classes)
                )
    model.train(was_training)
    return predictions


def clips_too_short(clips: Iterable[CachedClip]) -> list[str]:
    """Return the names of the clips that have fewer than `WINDOW` frames."""
    return [clip.name for clip in clips if len(clip.frames) < WINDOW]


def _resets(clip: CachedClip, start: int, window: int) -> Tensor | None:
    """Return (T, 1) bool, true where the state is reset within a window, or None if it never is."""
    cuts = clip.cuts[start : start + window].copy()
    cuts[0] = False
    return torch.from_numpy(cuts)[:, None] if cuts.any() else None


def frames_to_tensor(frames: NDArray[np.uint8]) -> Tensor:
    """Convert (T, B, H, W, 3 or 1) uint8 to the model's input (T, B, 3, H, W) in [0, 1]."""
    return torch.from_numpy(frames).movedim(-1, 2).float().div_(255).expand(-1, -1, 3, -1, -1)


def centre_in_box(frame_width: int) -> Matcher:
    """Return a matcher: the predicted centre lies in the true box, which is at least `MIN_BOX_PX` wide."""
    smallest = MIN_BOX_PX * frame_width / 320

    def matches(predicted: Box, truth: Box) -> bool:
        (x, y), (true_x, true_y) = predicted.centre, truth.centre
        width, height = max(truth.width, smallest), max(truth.height, smallest)
        return abs(x - true_x) <= width / 2 and abs(y - true_y) <= height / 2

    return matches


def iou_at_least_half(predicted: Box, truth: Box) -> bool:
    """Return whether the intersection over union is at least 0.5."""
    return predicted.iou(truth) >= 0.5


def count(
    predictions: Sequence[FramePrediction],
    threshold: float,
    *,
    target_class: str,
    matcher: Matcher | None = None,
) -> Counts:
    """Count true and false positives at `threshold`. Each true box matches at most one peak.

    Args:
        matcher: default: `centre_in_box`.
    """
    true_positives = false_positives = positives = on_empty = empty_frames = 0
    for one in predictions:
        truth, peaks = one.boxes_of(target_class), one.peaks_above(threshold)
        matched = sum(match_peaks(peaks, truth, matcher or centre_in_box(one.frame_width)))
        true_positives += matched
        false_positives += len(peaks) - matched
        positives += len(truth)
        if not truth:
            on_empty += len(peaks)
            empty_frames += 1
    return Counts(true_positives, false_positives, positives, on_empty, empty_frames)


def score(
    predictions: Sequence[FramePrediction],
    threshold: float,
    *,
    target_class: str,
    matcher: Matcher | None = None,
) -> Scores:
    """Return precision, recall, F1 and the false alarm rate at `threshold`; see `count`."""
    counts = count(predictions, threshold, target_class=target_class, matcher=matcher)
    predicted = counts.true_positives + counts.false_positives
    return Scores(
        threshold,
        counts.true_positives / max(predicted, 1),
        counts.true_positives / max(counts.positives, 1),
        2 * counts.true_positives / max(predicted + counts.positives, 1),
        counts.false_positives_on_empty / max(counts.empty_frames, 1),
    )


def choose_threshold(*views: Sequence[FramePrediction], target_class: str, beta: float = F_BETA) -> float:
    """Return the threshold that maximises the lowest F-beta of the views.

    Args:
        beta: weight of recall against precision. Below 1 a false positive costs more than a missed object;
            1 gives F1.

    Source: van Rijsbergen 1979, Information Retrieval, ch. 7.
    """

    def worst(threshold: float) -> float:
        return min(_f_beta(score(view, threshold, target_class=target_class), beta) for view in views)

    return max(THRESHOLDS, key=worst)


def _f_beta(scores: Scores, beta: float) -> float:
    denominator = beta**2 * scores.precision + scores.recall
    return (1 + beta**2) * scores.precision * scores.recall / denominator if denominator else 0.0


def enlarge(clip: CachedClip, scale: float = ENLARGEMENT) -> CachedClip:
    """Return the clip with its frames and boxes resized by `scale`."""
    import cv2

    frames = [cv2.resize(frame, None, fx=scale, fy=scale) for frame in clip.frames]
    boxes = tuple(tuple(box.scaled(scale) for box in here) for here in clip.boxes)
    return clip._replace(frames=np.stack(frames).reshape(len(frames), *frames[0].shape[:2], -1), boxes=boxes)


def average_precision(
    predictions: Sequence[FramePrediction], *, target_class: str, matcher: Matcher | None = None
) -> float:
    """Return the area under the precision-recall curve, interpolated at all points as in VOC 2010."""
    scored: list[tuple[float, bool]] = []
    positives = 0
    for one in predictions:
        truth = one.boxes_of(target_class)
        positives += len(truth)
        matched = match_peaks(one.peaks, truth, matcher or centre_in_box(one.frame_width))
        scored += zip((peak.score for peak in one.peaks), matched, strict=True)
    correct = np.array([matched for _, matched in sorted(scored, key=lambda pair: -pair[0])], bool)
    if not positives or not len(correct):
        return 0.0
    precision = np.cumsum(correct) / np.arange(1, len(correct) + 1)
    interpolated = np.maximum.accumulate(precision[::-1])[::-1]
    return float(interpolated[correct].sum() / positives)


def recall_by_frame(
    predictions: Sequence[FramePrediction], threshold: float, *, target_class: str
) -> list[float]:
    """Return the recall at every step of the windows, from the first frame on."""
    last = max((one.step for one in predictions), default=-1)
    return [
        score([one for one in predictions if one.step == t], threshold, target_class=target_class).recall
        for t in range(last + 1)
    ]


def frames_to_first_detection(
    predictions: Sequence[FramePrediction], threshold: float, *, target_class: str
) -> list[float]:
    """Return, for every window whose first frame shows a target, the frames until its first detection.

    Infinity stands for a window without a detection.
    """
    frames: list[float] = []
    waiting, before = False, math.inf
    for one in predictions:
        truth = one.boxes_of(target_class)
        if one.step <= before:  # a new window
            frames += [math.inf] * waiting
            waiting = bool(truth) and one.step == 0
        before = one.step
        if waiting and any(match_peaks(one.peaks_above(threshold), truth, centre_in_box(one.frame_width))):
            frames.append(one.step + 1)
            waiting = False
    return frames + [math.inf] * waiting


def match_peaks(peaks: Sequence[Peak], truth: Sequence[Box], matcher: Matcher) -> list[bool]:
    """Return for every peak whether it matches a true box that no peak before it matches."""
    free, matched = list(truth), []
    for peak in peaks:
        box = next((box for box in free if matcher(peak.box, box)), None)
        matched.append(box is not None)
        if box is not None:
            free.remove(box)
    return matched
