"""Two models on the same test clips: F1 of each in every row of track_rows.py, the difference, and how
far that would spread in other clips of the kind: the middle 95 % of 4,000 paired resamplings of the clips
(the bootstrap, Efron 1979, doi:10.1214/aos/1176344552).

    python benchmarks/track_compared.py MODEL OTHER FOOTAGE OUT.json [--modality IR] [--beta 1]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from canton.track import FramePrediction, choose_threshold, load_model
from canton.track.metrics import F_BETA, Matcher, count, iou_at_least_half
from track_rows import Predictions, kinds_of, predict_splits

RESAMPLINGS = 4000


def by_clip(
    predictions: list[FramePrediction], threshold: float, matcher: Matcher | None
) -> NDArray[np.int64]:
    """Return (clips, 3): true positives, false positives and positives."""
    clips: dict[str, list[FramePrediction]] = {}
    for one in predictions:
        clips.setdefault(one.clip, []).append(one)
    counts = (count(clips[name], threshold, target_class="drone", matcher=matcher) for name in sorted(clips))
    return np.array([(each.true_positives, each.false_positives, each.positives) for each in counts])


def f1(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the F1 of counts (..., clips, 3)."""
    true_positives, false_positives, positives = np.moveaxis(counts.sum(-2), -1, 0)
    return 2 * true_positives / np.maximum(true_positives + false_positives + positives, 1)


def compared(one: Predictions, other: Predictions, beta: float, matcher: Matcher | None) -> dict[str, Any]:
    """The F1 of both and their difference, each with a threshold chosen for it."""
    first, second = (
        by_clip(
            each["test"],
            choose_threshold(each["val"], each["nearer"], target_class="drone", beta=beta),
            matcher,
        )
        for each in (one, other)
    )
    drawn = np.random.default_rng(0).integers(0, len(first), (RESAMPLINGS, len(first)))
    apart = np.percentile(f1(first[drawn]) - f1(second[drawn]), (2.5, 97.5))
    return {
        "f1": [round(float(f1(counts)), 4) for counts in (first, second)],
        "difference": round(float(f1(first) - f1(second)), 4),
        "resampled": [round(float(end), 4) for end in apart],
        "clips": len(first),
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name in ("model", "other", "footage", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--modality", action="append")
    parser.add_argument("--beta", type=float, default=F_BETA)
    a = parser.parse_args(argv)
    torch.set_num_threads(1)
    held = [load_model(path) for path in (a.model, a.other)]
    width = int(held[0].header["training"]["width"])
    figures: dict[str, dict[str, Any]] = {}
    for modality in a.modality or ["IR", "V"]:
        figures[modality] = {}
        for view in ("clean", "hard"):
            predictions = [
                predict_splits(one.model, a.footage, modality, width, hard=view == "hard") for one in held
            ]
            for name in ("drone clips", "all clips"):
                pair = [kinds_of(each)[name] for each in predictions]
                figures[modality][f"{view}, {name}"] = compared(*pair, a.beta, None)
                figures[modality][f"{view}, {name}, boxes"] = compared(*pair, a.beta, iou_at_least_half)
    a.out.write_text(json.dumps(figures, indent=1))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
