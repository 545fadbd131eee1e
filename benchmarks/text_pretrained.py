"""Train the pretrained text model, which `canton text generate` uses without a model.

    python benchmarks/text_pretrained.py MINUTES [FILES...]

It trains on the files, or on Python's built-in language documentation. The model has no n-gram tables and no
contexts, so its file is small. Streams restart at random, so that training sees the state from which
generation starts. MINUTES is processor time on one thread.

Ctrl-C, or a kill after a save, leaves the run in pretrained.safetensors in the current folder; the same
command continues it. The finished model replaces src/canton/text/models/text.safetensors, and ten samples
from an empty prompt are printed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from canton.io.tensor_file import read_header
from canton.text import Architecture, Sampling, TrainConfig, generate, train

PRETRAINED = Path(__file__).parents[1] / "src" / "canton" / "text" / "models" / "text.safetensors"
RUN = Path("pretrained.safetensors")
SMALL = Architecture(hidden_size=288, contexts=(), ngram_orders=(), ngram_words=())


def main(minutes: str, *files: str) -> None:
    torch.set_num_threads(1)
    config = TrainConfig(model=SMALL, cpu_minutes=float(minutes), restart_bytes=4096)
    resume = RUN.exists() and "step" in read_header(RUN)
    done = train(config, out=RUN, files=[Path(file) for file in files], resume=resume, on_message=print)
    assert done is not None
    if done.held_out is None:
        print(f"stopped at step {done.report.step}; the same command continues")
        return
    warm, cold, _ = done.held_out
    print(f"warm {warm:.4f}, cold {cold:.4f} bits per byte, {RUN.stat().st_size} bytes")
    for seed in range(10):
        text = b"".join(generate(done.model, 600, sampling=Sampling(temperature=0.8), seed=seed))
        print(f"--- seed {seed}\n{text.decode()}")
    PRETRAINED.parent.mkdir(exist_ok=True)
    RUN.replace(PRETRAINED)


if __name__ == "__main__":
    main(*sys.argv[1:])
