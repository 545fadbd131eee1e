"""Train the article's model with its settings; measure bits per byte and generate a thousand bytes.

    python benchmarks/text_article.py FILE MINUTES

MINUTES is processor time on one thread. Results: benchmarks/results/text_article.json.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

import canton
from canton.text import ARTICLE, generate, train
from compare.runner import machine


def main(file: str, minutes: str) -> None:
    torch.set_num_threads(1)
    config = replace(ARTICLE, minutes=float(minutes))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model.safetensors"
        done = train(config, out=out, files=[Path(file)], clock=time.process_time)
    assert done is not None
    text = b"".join(generate(done.model, 1000, seed=1)).decode()
    result = {
        "file": Path(file).name,
        "processor_minutes": float(minutes),
        "bits_per_byte": done.held_out.warm,
        "steps": done.report.step,
        "recipe": config.to_header()["training"],
        "text": text,
        "machine": machine(),
        "versions": {"canton": canton.__version__, "torch": torch.__version__},
    }
    target = Path(__file__).parent / "results" / "text_article.json"
    target.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(f"{done.held_out.warm:.4f} bits per byte after {done.report.step} steps\n\n{text}")


if __name__ == "__main__":
    main(*sys.argv[1:])
