"""Measure held-out bits per byte with and without dynamic evaluation (`canton text score --adapt`).

    python benchmarks/text_adapt.py MODEL FILE [NAME=VALUE ...]

MODEL is trained on the first 90% of FILE (benchmarks/text_quality.py --models). The rest is scored in one
pass. NAME=VALUE are settings of `canton.text.Adapter`; its defaults were chosen on training text only.
Results: benchmarks/results/text_adapt.json.
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
    start = time.process_time()
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
        "processor_seconds": time.process_time() - start,
        "machine": machine(),
        "versions": {"canton": canton.__version__, "torch": torch.__version__},
    }
    target.write_text(json.dumps(table, indent=1) + "\n")
    print(f"{totals.bits_per_byte:.4f} bits per byte, {totals.adapted:.4f} with dynamic evaluation")


if __name__ == "__main__":
    main(*sys.argv[1:])
