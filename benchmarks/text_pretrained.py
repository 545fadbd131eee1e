"""Train the pretrained text model, which `canton text generate` uses without a model.

    python benchmarks/text_pretrained.py MINUTES

It trains on Python's built-in language documentation. It has no n-gram tables and no contexts, so its
file is small. MINUTES is processor time on one thread. The model goes to
src/canton/text/models/text.safetensors.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

from canton.text import Architecture, TrainConfig, train

PRETRAINED = Path(__file__).parents[1] / "src" / "canton" / "text" / "models" / "text.safetensors"
SMALL = Architecture(hidden_size=288, contexts=(), ngram_orders=(), ngram_words=())


def main(minutes: str) -> None:
    torch.set_num_threads(1)
    PRETRAINED.parent.mkdir(exist_ok=True)
    done = train(TrainConfig(model=SMALL, minutes=float(minutes)), out=PRETRAINED, clock=time.process_time)
    assert done is not None
    print(f"{done.held_out.warm:.4f} bits per byte, {PRETRAINED.stat().st_size} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
