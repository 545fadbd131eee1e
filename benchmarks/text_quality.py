"""Held-out bits per byte after a budget of processor minutes on one thread, `canton text`'s default model.

    python benchmarks/text_quality.py FILE MINUTES [HIDDEN DROPOUT]

The first 90% of FILE is for training, every byte of the rest is scored with the state carried along.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import torch

from canton.text import Architecture, train


def main(file: str, minutes: str, hidden: str = "384", dropout: str = "0.1") -> None:
    torch.set_num_threads(1)
    architecture = Architecture(hidden=int(hidden), dropout=float(dropout))
    with tempfile.TemporaryDirectory() as folder:
        done = train(
            Path(folder) / "model.safetensors",
            [Path(file)],
            minutes=float(minutes),
            architecture=architecture,
            clock=time.process_time,
        )
    assert done is not None
    print(
        f"{done.held_out:.4f} bits per byte, {done.held_out_bytes} bytes held out, {done.report.step} steps"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
