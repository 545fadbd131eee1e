"""F1 of two models on the same test clips, and the difference with its 95% confidence interval.

The rows are those of track_test_results.py. The interval is a paired bootstrap over the clips, with 4,000
samples.

Source: Efron 1979, doi:10.1214/aos/1176344552.

    python benchmarks/track_compare.py MODEL OTHER FOOTAGE OUT.json [--modality IR] [--beta 1]
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
from track_test_results import Predictions, by_row, predict_splits

BOOTSTRAP_SAMPLES = 4000


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


def compare(one: Predictions, other: Predictions, beta: float, matcher: Matcher | None) -> dict[str, Any]:
    """Return the F1 of both and their difference, each at its own threshold."""
    first, second = (
        by_clip(
            each["test"],
            choose_threshold(each["val"], each["nearer"], target_class="drone", beta=beta),
            matcher,
        )
        for each in (one, other)
    )
    samples = np.random.default_rng(0).integers(0, len(first), (BOOTSTRAP_SAMPLES, len(first)))
    interval = np.percentile(f1(first[samples]) - f1(second[samples]), (2.5, 97.5))
    return {
        "f1": [round(float(f1(counts)), 4) for counts in (first, second)],
        "difference": round(float(f1(first) - f1(second)), 4),
        "resampled": [round(float(end), 4) for end in interval],
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
    loaded = [load_model(path) for path in (a.model, a.other)]
    width = int(loaded[0].header["training"]["width"])
    figures: dict[str, dict[str, Any]] = {}
    for modality in a.modality or ["IR", "V"]:
        figures[modality] = {}
        for view in ("clean", "hard"):
            predictions = [
                predict_splits(one.model, a.footage, modality, width, hard=view == "hard") for one in loaded
            ]
            for name in ("drone clips", "all clips"):
                pair = [by_row(each)[name] for each in predictions]
                figures[modality][f"{view}, {name}"] = compare(*pair, a.beta, None)
                figures[modality][f"{view}, {name}, boxes"] = compare(*pair, a.beta, iou_at_least_half)
    a.out.write_text(json.dumps(figures, indent=1))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
