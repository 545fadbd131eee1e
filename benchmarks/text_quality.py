"""Measure the held-out bits per byte of the default model after a budget of processor time.

    python benchmarks/text_quality.py MINUTES FILE [FILE ...] [--models FOLDER]

The model trains on the first 90% of each FILE and is scored on the rest. MINUTES is processor time on one
thread, including the counting of n-grams. --models keeps the trained models, for text_adapt.py.
Results: benchmarks/results/text_quality.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch

import canton
from canton.text import TrainConfig, Trained, train
from compare.runner import machine

TARGET = Path(__file__).parent / "results" / "text_quality.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("minutes", type=float)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--models", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for file in given.files:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(given.models or folder) / f"{file.stem}_{given.minutes:g}.safetensors"
            done = train(TrainConfig(minutes=given.minutes), out=out, files=[file], clock=time.process_time)
        assert done is not None
        print(f"{file.name}, {given.minutes:g} minutes: {done.held_out.warm:.4f} bits per byte", flush=True)
        add_result(f"{file.name}, {given.minutes:g} minutes", done)


def add_result(name: str, done: Trained) -> None:
    """Add a result to the results file."""
    table = json.loads(TARGET.read_text()) if TARGET.exists() else {}
    table[name] = {
        "bits_per_byte": done.held_out.warm,
        "held_out_bytes": done.held_out.bytes,
        "steps": done.report.step,
        "processor_seconds_of_steps": done.report.seconds,
        "architecture": done.model.architecture.to_json(),
        "machine": machine(),
        "versions": {"canton": canton.__version__, "torch": torch.__version__},
    }
    TARGET.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
