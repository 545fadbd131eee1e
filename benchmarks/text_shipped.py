"""Train the byte model that ships with Canton: `canton text generate` without a model writes with it.

    python benchmarks/text_shipped.py MINUTES

It learns from the language documentation inside every Python, and has neither tables of counts nor of pairs
of bytes, so that its file is small. Processor minutes, one thread. The model goes to
src/canton/text/models/text.safetensors, the figure into its header.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

from canton.text import Architecture, TrainConfig, train

SHIPPED = Path(__file__).parents[1] / "src" / "canton" / "text" / "models" / "text.safetensors"
SMALL = Architecture(hidden_size=288, contexts=(), ngram_orders=(), ngram_words=())


def main(minutes: str) -> None:
    torch.set_num_threads(1)
    SHIPPED.parent.mkdir(exist_ok=True)
    done = train(TrainConfig(model=SMALL, minutes=float(minutes)), out=SHIPPED, clock=time.process_time)
    assert done is not None
    print(f"{done.held_out:.4f} bits per byte, {SHIPPED.stat().st_size} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
