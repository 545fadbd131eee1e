"""Throughput of scoring documents with the pretrained model, one thread: alone and in batches; cost per GB.

python benchmarks/text_documents.py
"""

from __future__ import annotations

import json
import time
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import torch

import canton
from canton.text import Corpus, load_model, surprisals
from canton.text.documents import Document, score_documents
from compare.runner import machine

SIZES = (256, 1024, 4096, 16384)
TOTAL = 1 << 18
"""Bytes to score for each size of document."""
HOURLY_PRICE = 0.04
"""Assumed price of a processor core in US dollars an hour."""


def main() -> None:
    torch.set_num_threads(1)
    with as_file(files("canton").joinpath("text/models/text.safetensors")) as path:
        model = load_model(path).model
    text = Corpus().read(0, TOTAL).tobytes()
    rows = {}
    for size in SIZES:
        documents = [Document("corpus", k, text[k : k + size]) for k in range(0, TOTAL, size)]
        alone = documents[: max(1, (1 << 14) // size)]
        start = time.perf_counter()
        for document in alone:
            list(surprisals(model, np.frombuffer(document.text, np.uint8)))
        middle = time.perf_counter()
        list(score_documents(model, documents))
        end = time.perf_counter()
        single = sum(len(document.text) for document in alone) / (middle - start)
        batched = TOTAL / (end - middle)
        dollars = 1e9 / batched / 3600 * HOURLY_PRICE
        rows[str(size)] = {
            "alone_bytes_per_s": round(single), "batched_bytes_per_s": round(batched),
            "core_hours_per_GB": round(1e9 / batched / 3600, 2), "dollars_per_GB": round(dollars, 3),
        }  # fmt: skip
        print(
            f"{size:6} bytes a document: {single:8,.0f} bytes/s alone, {batched:8,.0f} batched, "
            f"${dollars:.2f} a GB"
        )
    result = {
        "machine": machine(),
        "versions": {"canton": canton.__version__, "torch": torch.__version__},
        "dollars_per_core_hour": HOURLY_PRICE,
        "bytes_of_a_document": rows,
    }
    target = Path(__file__).parent / "results" / "text_documents.json"
    target.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
