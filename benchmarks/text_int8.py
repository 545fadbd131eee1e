"""What `precision="int8"` costs: held-out bits per byte by the writer that writes, in float32 and in int8.

    python benchmarks/text_int8.py FILE [MINUTES]

Scored are the model that ships with Canton, on the held-out part of its own corpus, and two that learn from
the first 90% of FILE for MINUTES (2) processor minutes each: the default and the article's. The native writer
itself reads each text, one byte a call: scores that leave it no choice make it "write" the byte that comes,
and what it gives for the next one is scored. Its float32 figure must be the model's own. One thread. Figures
go to benchmarks/results/text_int8.json.
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
from canton.text import ARTICLE, ByteModel, Corpus, TrainConfig, load_model, score, train
from canton.text.corpus import Bytes
from canton.text.engine.build import native_writer
from canton.text.generate import read
from canton.text.likelihood import BEFORE
from compare.runner import machine

SHIPPED = Path(__file__).parents[1] / "src" / "canton" / "text" / "models" / "text.safetensors"
RESULTS = Path(__file__).parent / "results" / "text_int8.json"
FORCED = 1e30
"""A score beside which no other byte is written."""


def writers_bits_per_byte(model: ByteModel, text: Bytes, precision: str) -> float:
    """Bits per byte of `text`, read from its first byte to its last by the native writer."""
    writer = native_writer(model, precision=precision)
    assert writer is not None
    logits, (window, *states) = read(model, bytes([BEFORE]))
    past, nats, sure = window[:, 0].numpy().tobytes(), 0.0, np.zeros(1)
    for byte in text:
        scores = logits.astype(np.float64)
        nats += np.logaddexp.reduce(scores) - scores[byte]
        force = np.zeros(256, np.float32)
        force[byte] = FORCED
        written = writer.write(force, states, past, sure, temperature=0)
        assert written.text[0] == byte
        logits, states, past = written.logits, written.states, written.past
    return float(nats) / math.log(2) / len(text)


def measured(model: ByteModel, corpus: Corpus) -> dict[str, float]:
    text = corpus.read(corpus.split, len(corpus))
    found = {p: writers_bits_per_byte(model.eval(), text, p) for p in ("float32", "int8")}
    own = score(model, text).bits_per_byte
    if abs(found["float32"] - own) > 1e-5:
        raise SystemExit(f"the writer scores {found['float32']} in float32, the model {own}")
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
    rows["shipped, its own held-out part"] = measured(load_model(SHIPPED).model, Corpus())
    for name, config in configs.items():
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "model.safetensors"
            config = replace(config, minutes=float(minutes))
            train(config, out=out, files=[Path(file)], clock=time.process_time)
            rows[f"{name}, {minutes} minutes, {Path(file).name}"] = measured(load_model(out).model, corpus)
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
