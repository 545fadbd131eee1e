"""Cost of `precision="int8"` in held-out bits per byte, measured with the C++ engine.

    python benchmarks/text_int8.py FILE [MINUTES]

The models are the pretrained one, on the held-out part of its own corpus, and two trained on the first 90% of
FILE for MINUTES (default: 2) of processor time each: the default architecture and the article's. The engine
reads each text one byte per call: forced logits make it generate the next byte of the text, and its logits
after it are scored. The float32 score must equal the model's. One thread.
Results: benchmarks/results/text_int8.json.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import canton
from canton.text import ARTICLE, ByteModel, Corpus, Sampling, TrainConfig, load_model, score, train
from canton.text.engine.engine import build_engine
from canton.text.generate import predict_next
from canton.text.types import START_BYTE, Bytes
from compare.runner import machine

PRETRAINED = Path(__file__).parents[1] / "src" / "canton" / "text" / "models" / "text.safetensors"
RESULTS = Path(__file__).parent / "results" / "text_int8.json"
FORCED = 1e30
"""A logit so large that no other byte is generated."""


def engine_bits_per_byte(model: ByteModel, text: Bytes, precision: str) -> float:
    """Return the bits per byte of `text`, read by the engine from the first byte to the last."""
    engine = build_engine(model, precision=precision)
    assert engine is not None
    logits, state = predict_next(model, bytes([START_BYTE]))
    nats = 0.0
    for byte in text:
        scores = logits.astype(np.float64)
        nats += np.logaddexp.reduce(scores) - scores[byte]
        forced = np.zeros(256, np.float32)
        forced[byte] = FORCED
        done = engine.generate(forced, state, np.zeros(1), sampling=Sampling(temperature=0))
        logits, state = done.logits, done.state
        assert done.text[0] == byte
    return float(nats) / math.log(2) / len(text)


def measure(model: ByteModel, corpus: Corpus) -> dict[str, float]:
    text = corpus.read(corpus.split, len(corpus))
    found = {p: engine_bits_per_byte(model.eval(), text, p) for p in ("float32", "int8")}
    own = score(model, text).bits_per_byte
    if abs(found["float32"] - own) > 1e-5:
        raise SystemExit(f"float32 score of the engine must be {own}, got {found['float32']}")
    return {
        "bytes": len(text),
        "model": own,
        **found,
        "cost": found["int8"] - found["float32"],
    }


def main(file: str, minutes: str = "2") -> None:
    torch.set_num_threads(1)
    corpus, rows = Corpus([Path(file)]), {}
    configs = {"default": TrainConfig(), "article": TrainConfig(model=ARTICLE.model)}
    rows["pretrained, held-out part of its corpus"] = measure(load_model(PRETRAINED).model, Corpus())
    for name, config in configs.items():
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "model.safetensors"
            config = replace(config, minutes=float(minutes))
            train(config, out=out, files=[Path(file)], clock=time.process_time)
            rows[f"{name}, {minutes} minutes, {Path(file).name}"] = measure(load_model(out).model, corpus)
    for name, row in rows.items():
        print(
            f"{name}: {row['float32']:.4f} bits per byte, int8 {row['cost']:+.5f} (model {row['model']:.4f})"
        )
    versions = {"canton": canton.__version__, "torch": torch.__version__}
    RESULTS.write_text(
        json.dumps({"rows": rows, "machine": machine(), "versions": versions}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
