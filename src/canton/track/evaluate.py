"""The whole evaluation of a model on a split of footage, as one table of numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from canton.errors import UserError
from canton.track.data.frame_cache import CachedClip
from canton.track.metrics import (
    WINDOW,
    Look,
    average_precision,
    frames_to_first,
    look,
    overlaps,
    recall_by_frame,
    score,
    too_short,
)
from canton.track.model import TrackModel


def evaluate(
    model: TrackModel,
    clips: Sequence[CachedClip],
    *,
    threshold: float,
    target_class: str,
    fps: float,
    every: int = 1,
    seed: int = 0,
) -> dict[str, Any]:
    """Every figure of `model` on `clips`, as they are ("clean") and made harder ("hard").

    clips: `fps` frames a second; those without a whole window are left out, and named in "too_short". every:
    of so many windows one is looked at.

    Raises: UserError if every clip is too short.
    """
    short = too_short(clips)
    if len(short) == len(clips):
        raise UserError(
            f"no clip has {WINDOW} frames at {fps:g} a second, the least that is looked at: there is nothing "
            "to measure"
        )
    rows = {}
    for name, hard in (("clean", False), ("hard", True)):
        looks = look(model, clips, hard=hard, every=every, seed=seed)
        rows[name] = tabulate(looks, threshold=threshold, target_class=target_class, fps=fps)
    counted = {"clips": len(clips) - len(short), "too_short": short}
    return {"threshold": threshold, "target_class": target_class, "fps": fps, **counted, **rows}


def tabulate(looks: Sequence[Look], *, threshold: float, target_class: str, fps: float) -> dict[str, Any]:
    """The figures of these frames.

    own: over the clips that are of the target, or show it. all: over all clips, where the others are
    traps. f1, precision, recall: of points; average_precision: over all thresholds; box_f1: where a hit must
    overlap the true box by half (intersection over union). false_alarms_per_frame: over the frames with
    nothing to detect in sight; false_alarms_per_minute: over the clips that never show it, None without such.
    seconds_to_first: the median time from a window's first frame to the first hit, among windows that begin
    with the thing in sight, None if half of them never come to it; never_found: their share, None if no
    window begins so. recall_by_frame: over the same clips as own.
    """
    clips = {one.clip for one in looks if one.kind == target_class or one.boxes_of(target_class)}
    own, others = ([one for one in looks if (one.clip in clips) == shown] for shown in (True, False))
    firsts = sorted(frames_to_first(own, threshold, target_class=target_class))
    median = firsts[len(firsts) // 2] if firsts else math.inf
    strays = score(others, threshold, target_class=target_class).false_alarms
    table: dict[str, Any] = {}
    for name, some in (("own", own), ("all", looks)):
        scores = score(some, threshold, target_class=target_class)
        table[name] = {
            "f1": scores.f1,
            "precision": scores.precision,
            "recall": scores.recall,
            "average_precision": average_precision(some, target_class=target_class),
            "box_f1": score(some, threshold, target_class=target_class, hit=overlaps).f1,
            "false_alarms_per_frame": scores.false_alarms,
            "frames": len(some),
        }
    return {
        **table,
        "false_alarms_per_minute": strays * fps * 60 if others else None,
        "seconds_to_first": median / fps if math.isfinite(median) else None,
        "never_found": sum(map(math.isinf, firsts)) / len(firsts) if firsts else None,
        "recall_by_frame": recall_by_frame(own, threshold, target_class=target_class),
    }
