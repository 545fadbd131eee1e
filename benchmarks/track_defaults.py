"""Variants of the default network of `canton track`, trained for the same time and scored on the val split.

    python benchmarks/track_defaults.py FOOTAGE MINUTES OUT.json [--only NAME ...] [--modality IR] [--seed N]
        [--batch-size N] [--frames-per-step N] [--tbptt-chunks N] [--workers N]

Trains in bfloat16; for MINUTES see track_training.py. --only: the variants to train.

average_precision: of the peaks, over all clips, clean and degraded; birds, airplanes and helicopters are
distractors. box_f1: on the clean drone clips, at the threshold chosen there. ms_per_frame: median of 30
frames of 320 x 256, one by one on one thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from canton.track import (
    ARTICLE,
    Architecture,
    CachedClip,
    Footage,
    TrackModel,
    cache_frames,
    choose_threshold,
    predict_windows,
    score,
)
from canton.track.metrics import average_precision, iou_at_least_half
from canton.track.targets import track_loss
from track_test_results import FPS
from track_training import add_arguments, flags, machine, run_training

DEFAULT = Architecture()


def stem_of(share: float) -> Architecture:
    """Return the default network with this multiple of the stem's channels."""
    return replace(DEFAULT, stem=tuple((round(c * share / 4) * 4, k, halve) for c, k, halve in DEFAULT.stem))


NO_EARLY = replace(DEFAULT, early=0)
NETWORKS = {
    "default": DEFAULT,
    "early memory of 8": replace(DEFAULT, early=8),
    "half the stem": stem_of(0.5),
    "one and a half times the stem": stem_of(1.5),
    "stride 4": replace(DEFAULT, stem=((16, 5, True), (32, 3, True), (48, 3, False), (32, 3, False))),
    "memory of 24": replace(DEFAULT, memory=24),
    "memory of 96": replace(DEFAULT, memory=96),
    "two layers of memory": replace(DEFAULT, memory_layers=2),
    "no path around the memory": replace(DEFAULT, bypass=False),
    "no context": replace(DEFAULT, context=0),
    "no memory": replace(DEFAULT, recurrent=False),
    "no early memory": NO_EARLY,
    "no early memory, half the stem": replace(stem_of(0.5), early=0),
    "no early memory, no context": replace(NO_EARLY, context=0),
    "no early memory, half the stem, no context": replace(stem_of(0.5), early=0, context=0),
    "the article's": ARTICLE,
}
LOSSES = {"loss not focal": 0.0, "loss twice as focal": 2.0}
"""The default network with another exponent `gamma` of the loss."""


def milliseconds(model: TrackModel) -> float:
    frame, state, times = torch.rand(1, 3, 256, 320), None, []
    with torch.inference_mode():
        for _ in range(40):
            start = time.perf_counter()
            _, state = model.step(frame, state)
            times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[10:])


def measure(model: TrackModel, clips: list[CachedClip]) -> dict[str, Any]:
    clean, hard = predict_windows(model, clips), predict_windows(model, clips, hard=True)
    own = [one for one in clean if one.class_name == "drone"]
    threshold = choose_threshold(own, target_class="drone")
    return {
        "average_precision": round(average_precision(clean, target_class="drone"), 4),
        "average_precision_hard": round(average_precision(hard, target_class="drone"), 4),
        "box_f1": round(score(own, threshold, target_class="drone", matcher=iou_at_least_half).f1, 4),
        "ms_per_frame": round(milliseconds(model), 2),
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("footage", type=Path)
    add_arguments(parser)
    parser.add_argument("--only", nargs="+", choices=[*NETWORKS, *LOSSES], default=[*NETWORKS, *LOSSES])
    parser.add_argument("--modality", default="IR", help="modality of the val clips (default: IR)")
    a = parser.parse_args(argv)
    torch.set_num_threads(1)
    clips = cache_frames(
        list(Footage(a.footage, split="val", modality=a.modality, shared_val=True)), fps=FPS, width=640
    )
    words = ["benchmarks/track_defaults.py", "FOOTAGE", f"{a.minutes:g}", "OUT", *flags(a)]
    figures: dict[str, Any] = {
        "command": " ".join(words),
        "machine": machine(a),
        "torch": torch.__version__,
        "clips": f"val, {a.modality}",
    }
    for name in a.only:
        out = a.out.with_name(f"{a.out.stem}_{name.replace(' ', '_')}.safetensors")
        focal = partial(track_loss, gamma=LOSSES[name]) if name in LOSSES else track_loss
        with patch("canton.track.train.track_loss", focal):
            network = NETWORKS.get(name, DEFAULT)
            trained = run_training(a, out, network, footage=a.footage, precision="bf16-mixed")
        figures[name] = {"steps": trained.report.step, **measure(trained.model.eval(), clips)}
        print(name, figures[name], flush=True)
        a.out.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
