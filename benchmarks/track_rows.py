"""The rows of the tracking table for one model, on the test clips of annotated footage at 10 frames/s, in
windows of twelve frames from empty memory. Every row's threshold is chosen on the validation clips of its own
kind of row, shown as they are and 1.4 times as large: the one whose F is best on the worse of the two, F0.5
if --beta says nothing.

    python benchmarks/track_rows.py MODEL FOOTAGE OUT.json [--modality IR] [--beta 1]

drone clips: those with a drone, as they are and made hard (a quarter of the contrast, noise of sd 20 of
255). all clips: birds, airplanes and helicopters are traps. F1, precision and recall are of points.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import torch

from canton.track import Footage, Look, TrackModel, cache_frames, choose_threshold, load_model, look, score
from canton.track.metrics import (
    BETA,
    average_precision,
    enlarged,
    frames_to_first,
    overlaps,
    recall_by_frame,
)

FPS = 10.0


Looks = dict[str, list[Look]]
"""What was looked at: the clips of "val", those 1.4 times as large as "nearer", and those of "test"."""


def looks_of(model: TrackModel, footage: Path, modality: str, width: int, *, hard: bool) -> Looks:
    looks = {}
    for split in ("val", "test"):
        clips = cache_frames(list(Footage(footage, split=split, modality=modality)), fps=FPS, width=width)
        looks[split] = look(model, clips, hard=hard)
        if split == "val":
            looks["nearer"] = look(model, map(enlarged, clips), hard=hard)
    return looks


def kinds_of(looks: Looks) -> dict[str, Looks]:
    """The looks of a row each: at clips with a drone, and at all."""
    own = {part: [one for one in here if one.kind == "drone"] for part, here in looks.items()}
    return {"drone clips": own, "all clips": looks}


def row(looks: Looks, beta: float) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for name, part in kinds_of(looks).items():
        threshold = choose_threshold(part["val"], part["nearer"], target_class="drone", beta=beta)
        scores = score(part["test"], threshold, target_class="drone")
        table[name] = {
            **{key: round(value, 4) for key, value in scores._asdict().items()},
            "average_precision": round(average_precision(part["test"], target_class="drone"), 4),
            "box_f1": round(score(part["test"], threshold, target_class="drone", hit=overlaps).f1, 4),
            "validation_f1": round(score(part["val"], threshold, target_class="drone").f1, 4),
            "frames": len(part["test"]),
        }
    own = kinds_of(looks)["drone clips"]["test"]
    threshold = table["drone clips"]["threshold"]
    firsts = sorted(frames_to_first(own, threshold, target_class="drone"))
    median = firsts[len(firsts) // 2]
    return {
        **table,
        "recall_by_frame": [round(v, 3) for v in recall_by_frame(own, threshold, target_class="drone")],
        "median_frames_to_first": median if math.isfinite(median) else None,
    }


def rows(path: Path, footage: Path, modalities: list[str], *, beta: float = BETA) -> dict[str, Any]:
    held = load_model(path)
    width = int(held.header["training"]["width"])  # what is wider is seen so many px wide, as when watching
    return {
        modality: {
            name: row(looks_of(held.model, footage, modality, width, hard=name == "hard"), beta)
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
    parser.add_argument("--beta", type=float, default=BETA)
    a = parser.parse_args(argv)
    torch.set_num_threads(1)
    figures = rows(a.model, a.footage, a.modality or ["IR", "V"], beta=a.beta)
    a.out.write_text(json.dumps(figures, indent=1))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
