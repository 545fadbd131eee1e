"""Compare GRU, LSTM, MGU and RNN as byte models of equal size after equal processor time.

    python benchmarks/text_cells.py FILE MINUTES RATE [CELL ...]

The models have one layer, no n-grams, no history, no contexts and no dropout. Each cell's hidden size gives
nearly as many weights as a GRU of 256. The best learning rate differs between cells, so run several rates.
Results: benchmarks/results/text_cells.json.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import torch

import canton
from canton.text import Architecture, ByteModel, TrainConfig, train
from compare.runner import machine

TARGET = Path(__file__).parent / "results" / "text_cells.json"


def plain(cell: str, hidden: int) -> Architecture:
    return Architecture(
        cell=cell,
        hidden_size=hidden,
        contexts=(),
        ngram_orders=(),
        ngram_words=(),
        history_orders=(),
        history_words=(),
        dropout=0.0,
    )


def weights(architecture: Architecture) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in ByteModel(architecture).parameters())


def main(file: str, minutes: str, rate: str, *cells: str) -> None:
    torch.set_num_threads(1)
    target_weights = weights(plain("gru", 256))
    for cell in cells or ("gru", "lstm", "mgu", "rnn"):
        sizes = range(64, 1025, 8)
        hidden = min(sizes, key=lambda hidden, cell=cell: abs(weights(plain(cell, hidden)) - target_weights))
        architecture = plain(cell, hidden)
        with tempfile.TemporaryDirectory() as folder:
            config = TrainConfig(model=architecture, minutes=float(minutes), learning_rate=float(rate))
            out = Path(folder) / "model.safetensors"
            done = train(config, out=out, files=[Path(file)], clock=time.process_time)
        assert done is not None
        found = {
            "hidden": hidden,
            "weights": weights(architecture),
            "steps": done.report.step,
            "bits_per_byte": done.held_out.warm,
            "machine": machine(),
            "versions": {"canton": canton.__version__, "torch": torch.__version__},
        }
        table = json.loads(TARGET.read_text()) if TARGET.exists() else {}
        table[f"{cell}, {Path(file).name}, {float(minutes):g} minutes, rate {float(rate):g}"] = found
        TARGET.write_text(json.dumps(table, indent=1) + "\n")
        print(cell, rate, found, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
