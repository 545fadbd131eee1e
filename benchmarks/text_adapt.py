"""Held-out bits per byte as a model is, and as it learns while it reads: `canton text score --adapt`.

    python benchmarks/text_adapt.py MODEL FILE [NAME=VALUE ...]

MODEL was trained on the first 90% of FILE (benchmarks/text_quality.py --models), the rest is scored in one
pass, byte after byte. The settings of `canton.text.Adapter` may be given; its own were chosen on training
text alone. Figures go to benchmarks/results/text_adapt.json.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch

import canton
from canton.text import Adapter, Corpus, load_model, score
from compare.runner import machine


def main(model: str, file: str, *settings: str) -> None:
    torch.set_num_threads(1)
    reader = load_model(Path(model)).model
    corpus = Corpus([Path(file)])
    text = corpus.read(corpus.split, len(corpus))
    given = {name: json.loads(value) for name, value in (setting.split("=") for setting in settings)}
    adapter = Adapter(reader, **given)
    began = time.process_time()
    totals = score(reader, text, adapter=adapter)
    target = Path(__file__).parent / "results" / "text_adapt.json"
    table = json.loads(target.read_text()) if target.exists() else {}
    table[f"{Path(model).stem}, {Path(file).name}"] = {
        "bytes": totals.bytes,
        "bits_per_byte": totals.bits_per_byte,
        "adapted_bits_per_byte": totals.adapted,
        "settings": {
            name: getattr(adapter, name)
            for name in ("learning_rate", "decay", "averaging", "epsilon", "count_weight", "chunk_size")
        },
        "processor_seconds": time.process_time() - began,
        "machine": machine(),
        "versions": {"canton": canton.__version__, "torch": torch.__version__},
    }
    target.write_text(json.dumps(table, indent=1) + "\n")
    print(f"{totals.bits_per_byte:.4f} bits per byte, {totals.adapted:.4f} learning while it reads")


if __name__ == "__main__":
    main(*sys.argv[1:])
