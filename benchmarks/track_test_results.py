"""Rows of the tracking results table for one model.

The model runs on the test clips at 10 frames per second, in windows of twelve frames from an empty state.
The threshold of a row has the best F-beta on its validation clips, on the worse of two views: their own size
and enlarged by 1.4. The default beta is 0.5.

    python benchmarks/track_test_results.py MODEL FOOTAGE OUT.json [--modality IR] [--beta 1]

Rows are "drone clips" and "all clips", where birds, airplanes and helicopters are distractors, each clean and
hard (a quarter of the contrast, noise with a standard deviation of 20 of 255). F1, precision and recall count
a peak as correct if its centre lies in the true box.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import torch

from canton.track import (
    Footage,
    FramePrediction,
    TrackModel,
    cache_frames,
    choose_threshold,
    load_model,
    predict_windows,
    score,
)
from canton.track.metrics import (
    F_BETA,
    average_precision,
    enlarge,
    frames_to_first_detection,
    iou_at_least_half,
    recall_by_frame,
)

FPS = 10.0


Predictions = dict[str, list[FramePrediction]]
"""Predictions by split: "val", "test", and "nearer", the enlarged val clips."""


def predict_splits(model: TrackModel, footage: Path, modality: str, width: int, *, hard: bool) -> Predictions:
    """Run the model on both splits."""
    predictions = {}
    for split in ("val", "test"):
        clips = cache_frames(
            list(Footage(footage, split=split, modality=modality, shared_val=True)), fps=FPS, width=width
        )
        predictions[split] = predict_windows(model, clips, hard=hard)
        if split == "val":
            predictions["nearer"] = predict_windows(model, map(enlarge, clips), hard=hard)
    return predictions


def by_row(predictions: Predictions) -> dict[str, Predictions]:
    """Return the predictions of every row."""
    own = {part: [one for one in here if one.class_name == "drone"] for part, here in predictions.items()}
    return {"drone clips": own, "all clips": predictions}


def row(predictions: Predictions, beta: float) -> dict[str, Any]:
    """Return the figures of both rows."""
    table: dict[str, Any] = {}
    for name, part in by_row(predictions).items():
        threshold = choose_threshold(part["val"], part["nearer"], target_class="drone", beta=beta)
        scores = score(part["test"], threshold, target_class="drone")
        table[name] = {
            **{key: round(value, 4) for key, value in scores._asdict().items()},
            "average_precision": round(average_precision(part["test"], target_class="drone"), 4),
            "box_f1": round(
                score(part["test"], threshold, target_class="drone", matcher=iou_at_least_half).f1, 4
            ),
            "validation_f1": round(score(part["val"], threshold, target_class="drone").f1, 4),
            "frames": len(part["test"]),
        }
    own = by_row(predictions)["drone clips"]["test"]
    threshold = table["drone clips"]["threshold"]
    firsts = sorted(frames_to_first_detection(own, threshold, target_class="drone"))
    median = firsts[len(firsts) // 2]
    return {
        **table,
        "recall_by_frame": [round(v, 3) for v in recall_by_frame(own, threshold, target_class="drone")],
        "median_frames_to_first": median if math.isfinite(median) else None,
    }


def rows(path: Path, footage: Path, modalities: list[str], *, beta: float = F_BETA) -> dict[str, Any]:
    """Return the figures of a model file by modality, clean and hard."""
    loaded = load_model(path)
    width = int(loaded.header["training"]["width"])  # as `canton track watch` does
    return {
        modality: {
            name: row(predict_splits(loaded.model, footage, modality, width, hard=name == "hard"), beta)
            for name in ("clean", "hard")
        }
        for modality in modalities
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("footage", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--modality", action="append")
    parser.add_argument("--beta", type=float, default=F_BETA)
    a = parser.parse_args(argv)
    torch.set_num_threads(1)
    figures = rows(a.model, a.footage, a.modality or ["IR", "V"], beta=a.beta)
    a.out.write_text(json.dumps(figures, indent=1))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
