"""Train `canton track` on footage for a number of minutes and score it on the test split.

    python benchmarks/track_quality.py FOOTAGE MINUTES OUT [--modality IR] [--no-recurrent]
        [--single-frame-steps N] [--batch-size N] [--frames-per-step N] [--tbptt-chunks N] [--workers N]
        [--accelerator cuda]

For MINUTES see track_training.py, for the scores track_test_results.py. On a CPU convolutions are in
bfloat16. Writes the model to OUT and the scores to OUT with the suffix .json.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch

from canton.track import load_model
from track_test_results import rows
from track_training import add_arguments, flags, initial_architecture, machine, run_training


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("footage", type=Path)
    add_arguments(parser)
    parser.add_argument("--modality")
    parser.add_argument("--no-recurrent", action="store_true")
    parser.add_argument("--early", type=int, help="channels of the early ConvGRU (default: the network's)")
    a = parser.parse_args(argv)
    network = replace(initial_architecture(a), recurrent=not a.no_recurrent)
    network = network if a.early is None else replace(network, early=a.early)
    trained = run_training(a, a.out, network, footage=a.footage, modality=a.modality, precision="bf16-mixed")
    own = [] if a.early is None else [f"--early {a.early}"]
    own += [
        *(["--no-recurrent"] if a.no_recurrent else []),
        *([f"--modality {a.modality}"] if a.modality else []),
    ]
    figures = {
        "command": " ".join(
            ["benchmarks/track_quality.py", "FOOTAGE", f"{a.minutes:g}", "OUT", *own, *flags(a)]
        ),
        "machine": machine(a),
        "torch": torch.__version__,
        "seconds": round(trained.report.seconds),
        "parameters": sum(p.numel() for p in load_model(a.out).model.parameters()),
        "steps": trained.report.step,
        "validation": trained.held_out,
        "test": rows(a.out, a.footage, [a.modality] if a.modality else ["IR", "V"]),
    }
    a.out.with_suffix(".json").write_text(json.dumps(figures, indent=1))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
