"""F1 of a network with and without memory on synthetic scenes of one kind, by frame.

    python benchmarks/track_synthetic.py KIND MINUTES OUT.json [--early N] [--footage DIR]
        [--batch-size N] [--frames-per-step N] [--tbptt-chunks N] [--workers N] [--accelerator cuda]

KIND is article, camouflage, thermal or mixed. Each network trains for MINUTES (see track_training.py).
--early N sets the channels of the early ConvGRU in both. Writes F1 and recall of 200 held-out scenes at each
frame from the first (t0), at the threshold with the best F0.5 over all frames. With --footage it also scores
the models on the infrared test clips; they are not trained on real footage.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from canton.track import (
    Footage,
    TrackModel,
    cache_frames,
    choose_threshold,
    load_model,
    predict_windows,
    score,
)
from canton.track.train_sources import SceneSource
from canton.track.window_analysis import evaluate_windows
from track_training import add_arguments, flags, initial_architecture, machine, run_training

SCENES = 200


def by_frame(model: TrackModel, kind: str) -> dict[str, Any]:
    scenes = SceneSource(kind=kind, target_class="drone")
    predictions = predict_windows(model, [scenes.held_out_scene(1000 + k) for k in range(SCENES)])
    threshold = choose_threshold(predictions, target_class="drone")
    each = [
        score([one for one in predictions if one.step == t], threshold, target_class="drone")
        for t in range(12)
    ]
    return {
        "threshold": threshold,
        "f1": [round(scores.f1, 3) for scores in each],
        "recall": [round(scores.recall, 3) for scores in each],
        "false_alarms_per_frame": [round(scores.false_alarms, 3) for scores in each],
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("kind")
    add_arguments(parser)
    parser.add_argument("--early", type=int, help="channels of the early ConvGRU (default: the network's)")
    parser.add_argument("--footage", type=Path)
    a = parser.parse_args(argv)
    own = [*([] if a.early is None else [f"--early {a.early}"]), *(["--footage DIR"] if a.footage else [])]
    figures: dict[str, Any] = {
        "command": " ".join(
            ["benchmarks/track_synthetic.py", a.kind, f"{a.minutes:g}", "OUT", *own, *flags(a)]
        ),
        "machine": machine(a),
        "torch": torch.__version__,
        "scenes": SCENES,
    }
    for name, recurrent in (("memory", True), ("no memory", False)):
        path = a.out.with_name(f"{a.out.stem}_{name.replace(' ', '_')}.safetensors")
        network = replace(initial_architecture(a), recurrent=recurrent)
        network = network if a.early is None else replace(network, early=a.early)
        trained = run_training(a, path, network, scene_kind=a.kind)
        model = load_model(path).model
        figures[name] = {"steps": trained.report.step, **by_frame(model, a.kind)}
        if a.footage is not None:
            clips = cache_frames(list(Footage(a.footage, split="test", modality="IR")), fps=10.0, width=320)
            threshold = figures[name]["threshold"]
            figures[name]["real_footage"] = evaluate_windows(
                model, clips, threshold=threshold, target_class="drone", fps=10.0
            )
        print(name, json.dumps(figures[name]), flush=True)
    a.out.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
