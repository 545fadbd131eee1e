"""GRU, LSTM, MGU and RNN as byte models with equally many weights: bits per byte after equal processor time.

    python benchmarks/text_cells.py FILE MINUTES

Nothing is looked up (no counts, no contexts), one layer, no dropout: the cells speak for themselves. The
width of each is the one whose model comes nearest to the weights of a GRU of 256. The steps each came to are
noted too: how much computation a step costs. Figures go to benchmarks/results/text_cells.json.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import torch

import canton
from canton.bench.runner import machine
from canton.text import Architecture, ByteModel, train


def plain(cell: str, hidden: int) -> Architecture:
    return Architecture(
        cell=cell, hidden=hidden, contexts=(), counts=(), words=(), recent=(), recent_words=(), dropout=0.0
    )


def weights(architecture: Architecture) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in ByteModel(architecture).parameters())


def main(file: str, minutes: str) -> None:
    torch.set_num_threads(1)
    wanted = weights(plain("gru", 256))
    table: dict[str, object] = {}
    for cell in ("gru", "lstm", "mgu", "rnn"):
        sizes = range(64, 1025, 8)
        hidden = min(sizes, key=lambda hidden, cell=cell: abs(weights(plain(cell, hidden)) - wanted))
        architecture = plain(cell, hidden)
        with tempfile.TemporaryDirectory() as folder:
            done = train(
                Path(folder) / "model.safetensors",
                [Path(file)],
                minutes=float(minutes),
                architecture=architecture,
                clock=time.process_time,
            )
        assert done is not None
        table[cell] = {
            "hidden": hidden,
            "weights": weights(architecture),
            "steps": done.report.step,
            "bits_per_byte": done.held_out,
        }
        print(cell, table[cell], flush=True)
    result = {
        "file": Path(file).name,
        "processor_minutes": float(minutes),
        "cells": table,
        "machine": machine(),
        "versions": {"canton": canton.__version__, "torch": torch.__version__},
    }
    target = Path(__file__).parent / "results" / "text_cells.json"
    target.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
