"""How well a model finds what it seeks, on clips where the truth is known."""

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
from canton.track.model import TrackModel
from canton.track.peaks import Peak, peaks_of
from canton.track.video.preprocess import check_size

WINDOW = 12
"""Frames a window has; each begins with an empty memory."""
LARGER = 1.4
"""How much larger held-out clips are shown a second time, to choose a threshold: what flies in a user's film
need not be as small as in the few clips held out, and birds that come near look like drones."""
BETA = 0.5
"""How thresholds are chosen, see `choose_threshold`: whoever watches the sky would rather see a thing a frame
later than be called for a bird."""
LEAST = 0.05
"""Peaks below this heat are not kept."""
LEAST_BOX_PX = 8.0
"""A hit lies in the true box, grown to at least this at a frame width of 320 px."""
THRESHOLDS = tuple(round(0.08 + 0.02 * k, 2) for k in range(43))

Hit = Callable[[Box, Box], bool]
"""(predicted, truth) -> whether the prediction counts as a hit."""


class Look(NamedTuple):
    """One frame of one window: of which clip and kind, how many frames the memory had seen before it, what
    was there (all kinds), and what the model pointed at, the hottest first. kinds: what each of `truth`
    is; None: all are `kind`.
    """

    clip: str
    kind: str
    seen: int
    width: int
    truth: tuple[Box, ...]
    peaks: list[Peak]
    kinds: tuple[str, ...] | None = None

    def boxes_of(self, target_class: str) -> list[Box]:
        """Those of `truth` that are of the target."""
        kinds = (self.kind,) * len(self.truth) if self.kinds is None else self.kinds
        return [box for box, kind in zip(self.truth, kinds, strict=True) if kind == target_class]


class Counts(NamedTuple):
    """hits, strays: peaks that hit something to detect, and that did not; present: true boxes of the target;
    alarms: peaks in the `empty` frames, those in which no target can be seen.
    """

    hits: int
    strays: int
    present: int
    alarms: int
    empty: int


class Scores(NamedTuple):
    """precision, recall and f1 of the peaks over a threshold; false_alarms: per frame without a
    target in sight.
    """

    threshold: float
    precision: float
    recall: float
    f1: float
    false_alarms: float


def look(
    model: TrackModel,
    clips: Iterable[CachedClip],
    *,
    hard: bool = False,
    window: int = WINDOW,
    every: int = 1,
    seed: int = 0,
) -> list[Look]:
    """Run `model` over windows of `clips`, side by side, one after the other from each clip's beginning.

    hard: see `canton.track.data.degrade`. every: of so many windows one is looked at.

    Raises: UserError for clips whose pictures are too small for the model.
    """
    device = next(model.parameters()).device
    looks: list[Look] = []
    was_training = model.training
    model.eval()
    for k, clip in enumerate(clips):
        check_size(model.architecture, *clip.frames.shape[1:3])
        rng = np.random.default_rng((seed, k))
        for start in range(0, len(clip.frames) - window + 1, window * every):
            boxes = clip.boxes[start : start + window]
            frames = np.array(clip.frames[start : start + window])  # its own: the store is read-only
            if hard:
                frames = degrade(frames, boxes, rng)
            with torch.inference_mode():
                cuts = _cuts(clip, start, window)
                maps, _ = model(to_frames(frames[:, None]).to(device), None, cuts)
            for t in range(window):
                peaks = peaks_of(
                    maps[t, 0, :3].cpu(), stride=model.stride, offset=model.offset, threshold=LEAST
                )
                kinds = clip.kinds_at(start + t)
                looks.append(Look(clip.name, clip.kind, t, frames.shape[2], boxes[t], peaks, kinds))
    model.train(was_training)
    return looks


def too_short(clips: Iterable[CachedClip]) -> list[str]:
    """The names of those in which `look` finds no whole window."""
    return [clip.name for clip in clips if len(clip.frames) < WINDOW]


def _cuts(clip: CachedClip, start: int, window: int) -> Tensor | None:
    """Where the memory starts afresh within a window, as (T, 1); None where it does not."""
    cuts = clip.cuts[start : start + window].copy()
    cuts[0] = False
    return torch.from_numpy(cuts)[:, None] if cuts.any() else None


def to_frames(frames: NDArray[np.uint8]) -> Tensor:
    """(T, B, H, W, 3 or 1) uint8 to the (T, B, 3, H, W) in [0, 1] that a model takes."""
    return torch.from_numpy(frames).movedim(-1, 2).float().div_(255).expand(-1, -1, 3, -1, -1)


def in_box(width: int) -> Hit:
    """A hit of a point, in frames of `width` px; see `LEAST_BOX_PX`."""
    least = LEAST_BOX_PX * width / 320

    def hit(predicted: Box, truth: Box) -> bool:
        (x, y), (true_x, true_y) = predicted.centre, truth.centre
        width, height = max(truth.width, least), max(truth.height, least)
        return abs(x - true_x) <= width / 2 and abs(y - true_y) <= height / 2

    return hit


def overlaps(predicted: Box, truth: Box) -> bool:
    """Return whether the intersection over union is at least 0.5."""
    return predicted.iou(truth) >= 0.5


def count(looks: Sequence[Look], threshold: float, *, target_class: str, hit: Hit | None = None) -> Counts:
    """Count hits at `threshold`; every true box can be hit once, and what is not `target_class` is a trap."""
    hits = strays = present = alarms = empty = 0
    for one in looks:
        truth = one.boxes_of(target_class)
        pointed = [peak for peak in one.peaks if peak.score >= threshold]
        found = sum(_hits(pointed, truth, hit or in_box(one.width)))
        hits, strays, present = hits + found, strays + len(pointed) - found, present + len(truth)
        if not truth:
            alarms, empty = alarms + len(pointed), empty + 1
    return Counts(hits, strays, present, alarms, empty)


def score(looks: Sequence[Look], threshold: float, *, target_class: str, hit: Hit | None = None) -> Scores:
    """What `count` counts, as shares."""
    counts = count(looks, threshold, target_class=target_class, hit=hit)
    return Scores(
        threshold,
        counts.hits / max(counts.hits + counts.strays, 1),
        counts.hits / max(counts.present, 1),
        2 * counts.hits / max(counts.hits + counts.strays + counts.present, 1),
        counts.alarms / max(counts.empty, 1),
    )


def choose_threshold(*views: Sequence[Look], target_class: str, beta: float = BETA) -> float:
    """The threshold whose F is best on these; of several views, on that view where its F is worst.

    beta: F weighs recall beta squared times as much as precision: with less than 1 a false alarm counts more
    than a thing that was missed (van Rijsbergen 1979, Information Retrieval, ch. 7); 1 gives F1.
    """

    def worst(threshold: float) -> float:
        return min(_f(score(looks, threshold, target_class=target_class), beta) for looks in views)

    return max(THRESHOLDS, key=worst)


def _f(scores: Scores, beta: float) -> float:
    under = beta**2 * scores.precision + scores.recall
    return (1 + beta**2) * scores.precision * scores.recall / under if under else 0.0


def enlarged(clip: CachedClip, scale: float = LARGER) -> CachedClip:
    """The clip as if filmed from nearer: its frames and boxes so many times as large."""
    import cv2

    frames = [cv2.resize(frame, None, fx=scale, fy=scale) for frame in clip.frames]
    boxes = tuple(tuple(box.scaled(scale) for box in here) for here in clip.boxes)
    return clip._replace(frames=np.stack(frames).reshape(len(frames), *frames[0].shape[:2], -1), boxes=boxes)


def average_precision(looks: Sequence[Look], *, target_class: str, hit: Hit | None = None) -> float:
    """The area under precision over recall, precision made falling (all points, as VOC 2010 counts it)."""
    scored: list[tuple[float, bool]] = []
    present = 0
    for one in looks:
        truth = one.boxes_of(target_class)
        present += len(truth)
        found = _hits(one.peaks, truth, hit or in_box(one.width))
        scored += zip((peak.score for peak in one.peaks), found, strict=True)
    right = np.array([good for _, good in sorted(scored, key=lambda pair: -pair[0])], bool)
    if not present or not len(right):
        return 0.0
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    return float(falling[right].sum() / present)


def recall_by_frame(looks: Sequence[Look], threshold: float, *, target_class: str) -> list[float]:
    """Recall at the first, second ... frame the memory sees: the curve that shows evidence accumulating."""
    last = max((one.seen for one in looks), default=-1)
    return [
        score([one for one in looks if one.seen == t], threshold, target_class=target_class).recall
        for t in range(last + 1)
    ]


def frames_to_first(looks: Sequence[Look], threshold: float, *, target_class: str) -> list[float]:
    """For every window whose first frame shows the target: frames seen when it was first hit, infinity where
    it never was.
    """
    firsts: list[float] = []
    waiting = False
    for one in looks:
        if one.seen == 0:
            firsts += [math.inf] * waiting
            waiting = bool(one.boxes_of(target_class))
        pointed = [peak for peak in one.peaks if peak.score >= threshold]
        if waiting and any(_hits(pointed, one.boxes_of(target_class), in_box(one.width))):
            firsts.append(one.seen + 1)
            waiting = False
    return firsts + [math.inf] * waiting


def _hits(pointed: Sequence[Peak], truth: Sequence[Box], hit: Hit) -> list[bool]:
    """Which of the peaks hit a box that no hotter one has hit."""
    left, found = list(truth), []
    for peak in pointed:
        box = next((box for box in left if hit(peak.box, box)), None)
        found.append(box is not None)
        if box is not None:
            left.remove(box)
    return found
