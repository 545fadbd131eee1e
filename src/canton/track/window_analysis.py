"""Evaluation of a model on windows of annotated clips, each from an empty state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from canton.errors import UserError
from canton.track.data.frame_cache import CachedClip
from canton.track.metrics import (
    WINDOW,
    FramePrediction,
    average_precision,
    clips_too_short,
    frames_to_first_detection,
    iou_at_least_half,
    predict_windows,
    recall_by_frame,
    score,
)
from canton.track.model import TrackModel


def evaluate_windows(
    model: TrackModel,
    clips: Sequence[CachedClip],
    *,
    threshold: float,
    target_class: str,
    fps: float,
    every: int = 1,
    seed: int = 0,
) -> dict[str, Any]:
    """Evaluate `model` on `clips`, unchanged ("clean") and degraded ("hard").

    Args:
        clips: clips at `fps` frames per second. Clips shorter than a window are skipped and listed under
            "too_short".
        threshold: detection threshold, in (0, 1].
        target_class: class to detect.
        fps: frames per second of the clips.
        every: use every n-th window.
        seed: random seed of the noise.

    Returns:
        The settings, "clips" and "too_short", and under "clean" and "hard" the figures of `tabulate`.

    Raises:
        UserError: every clip is too short.
    """
    short = clips_too_short(clips)
    if len(short) == len(clips):
        raise UserError(f"clips must have at least {WINDOW} frames at {fps:g} frames per second; none has")
    rows = {}
    for name, hard in (("clean", False), ("hard", True)):
        predictions = predict_windows(model, clips, hard=hard, every=every, seed=seed)
        rows[name] = tabulate(predictions, threshold=threshold, target_class=target_class, fps=fps)
    counted = {"clips": len(clips) - len(short), "too_short": short}
    return {"threshold": threshold, "target_class": target_class, "fps": fps, **counted, **rows}


def tabulate(
    predictions: Sequence[FramePrediction], *, threshold: float, target_class: str, fps: float
) -> dict[str, Any]:
    """Return the figures of `predictions`.

    Returns:
        own, all: a table each, over the clips that show the target class and over all clips, with f1,
            precision, recall, average_precision, box_f1 (F1 at an intersection over union of 0.5),
            false_alarms_per_frame (over frames without a target) and frames.
        false_alarms_per_minute: over clips that never show a target. None: there are none.
        seconds_to_first: median time from the first frame of a window to the first detection, over windows
            whose first frame shows a target. None: at least half of them have no detection.
        never_found: share of these windows without a detection. None: there are no such windows.
        recall_by_frame: recall at every step of a window, over the clips that show the target.
    """
    clips = {one.clip for one in predictions if one.class_name == target_class or one.boxes_of(target_class)}
    own = [one for one in predictions if one.clip in clips]
    without_target = [one for one in predictions if one.clip not in clips]
    frames = sorted(frames_to_first_detection(own, threshold, target_class=target_class))
    median = frames[len(frames) // 2] if frames else math.inf
    table: dict[str, Any] = {}
    for name, selected in (("own", own), ("all", predictions)):
        scores = score(selected, threshold, target_class=target_class)
        boxes = score(selected, threshold, target_class=target_class, matcher=iou_at_least_half)
        table[name] = {
            "f1": scores.f1,
            "precision": scores.precision,
            "recall": scores.recall,
            "average_precision": average_precision(selected, target_class=target_class),
            "box_f1": boxes.f1,
            "false_alarms_per_frame": scores.false_alarms,
            "frames": len(selected),
        }
    false_alarms = score(without_target, threshold, target_class=target_class).false_alarms
    return {
        **table,
        "false_alarms_per_minute": false_alarms * fps * 60 if without_target else None,
        "seconds_to_first": median / fps if math.isfinite(median) else None,
        "never_found": sum(map(math.isinf, frames)) / len(frames) if frames else None,
        "recall_by_frame": recall_by_frame(own, threshold, target_class=target_class),
    }
