"""The whole evaluation of a model on a split of footage, as one table of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from canton.motion.evaluation import (
    Look,
    average_precision,
    frames_to_first,
    look,
    overlaps,
    recall_by_frame,
    score,
)
from canton.motion.model import MotionModel
from canton.motion.store import Stored


def evaluate(
    model: MotionModel,
    clips: Sequence[Stored],
    *,
    threshold: float,
    sought: str,
    fps: float,
    every: int = 1,
    seed: int = 0,
) -> dict[str, Any]:
    """Every figure of `model` on `clips`, as they are ("clean") and made harder ("hard").

    clips: `fps` frames a second. every: of so many windows one is looked at.
    """
    rows = {}
    for name, hard in (("clean", False), ("hard", True)):
        looks = look(model, clips, hard=hard, every=every, seed=seed)
        rows[name] = tabulate(looks, threshold=threshold, sought=sought, fps=fps)
    return {"threshold": threshold, "sought": sought, "fps": fps, "clips": len(clips), **rows}


def tabulate(looks: Sequence[Look], *, threshold: float, sought: str, fps: float) -> dict[str, Any]:
    """The figures of these frames.

    own: over the clips that are of what is sought, or show it. all: over all clips, where the others are
    traps. f1, precision, recall: of points; average_precision: over all thresholds; box_f1: where a hit must
    overlap the true box by half (intersection over union). false_alarms_per_minute: over the frames with
    nothing sought in sight. seconds_to_first: the median time from a window's first frame to the first hit,
    among windows that begin with the thing in sight. recall_by_frame: over the same clips as own.
    """
    clips = {one.clip for one in looks if one.kind == sought or one.boxes_of(sought)}
    own = [one for one in looks if one.clip in clips]
    firsts = sorted(frames_to_first(own, threshold, sought=sought))
    table: dict[str, Any] = {}
    for name, some in (("own", own), ("all", looks)):
        scores = score(some, threshold, sought=sought)
        table[name] = {
            "f1": scores.f1,
            "precision": scores.precision,
            "recall": scores.recall,
            "average_precision": average_precision(some, sought=sought),
            "box_f1": score(some, threshold, sought=sought, hit=overlaps).f1,
            "false_alarms_per_frame": scores.false_alarms,
            "frames": len(some),
        }
    return {
        **table,
        "false_alarms_per_minute": table["all"]["false_alarms_per_frame"] * fps * 60,
        "seconds_to_first": firsts[len(firsts) // 2] / fps if firsts else None,
        "recall_by_frame": recall_by_frame(own, threshold, sought=sought),
    }
