"""What a run tells while it goes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from canton.text.corpus import Corpus
from canton.text.generate import generate
from canton.text.likelihood import bits_per_byte
from canton.text.model import ByteModel
from canton.training.checkpoint import Checkpoint
from canton.training.curve import Curve
from canton.training.fit import Report


class Progress(NamedTuple):
    """What a run tells while it goes.

    bits_per_byte: of the training text since the last time; held_out: of the held-out part, whenever it was
    scored, else None; sample: bytes the model has just written, now and then, else None; seconds_left: a
    guess.
    """

    step: int
    fraction: float
    bits_per_byte: float
    bytes_per_second: float
    seconds: float
    seconds_left: float
    learning_rate: float
    held_out: float | None
    sample: bytes | None


class Watch:
    """Turns `fit`'s reports into `Progress`: speed, time left, and from time to time a sample and a held-out
    score. `curve` gets a point of each.
    """

    def __init__(
        self,
        model: ByteModel,
        corpus: Corpus,
        settings: dict[str, Any],
        show: Callable[[Progress], None] | None,
        looks: int,
        log: Callable[[dict[str, float], int], None],
        checkpoint: Checkpoint | None,
        curve: Curve,
    ) -> None:
        self.model, self.corpus, self.show, self.looks, self.log = model, corpus, show, looks, log
        self.step_bytes = settings["batch"] * settings["length"]
        self.last_step = checkpoint.step if checkpoint else 0
        self.last_seconds = checkpoint.seconds if checkpoint else 0.0
        self.looked, self.looking = -1, 0.0
        self.curve = curve

    def __call__(self, report: Report) -> None:
        bits = report.loss / math.log(2)
        passed = max(report.seconds - self.last_seconds - self.looking, 1e-9)
        speed = (report.step - self.last_step) * self.step_bytes / passed
        self.last_step, self.last_seconds = report.step, report.seconds
        held_out = sample = None
        began = time.monotonic()
        look = int(report.fraction * self.looks)
        if self.show is not None and self.looked < look < self.looks and not report.stopped:
            if self.looked >= 0 or look > 0:
                part = min(len(self.corpus), self.corpus.split + (1 << 14))
                held_out = bits_per_byte(self.model, self.corpus, self.corpus.split, part, run_up=512)
                sample = b"".join(generate(self.model, 160, seed=look, temperature=0.8))
                self.model.train()
            self.looked = look
        self.looking = time.monotonic() - began
        self.curve.note(report.step, report.seconds, bits)
        if held_out is not None:
            self.curve.held_out.append((report.step, held_out))
        numbers = {"bits_per_byte": bits, "learning_rate": report.learning_rate, "bytes_per_second": speed}
        self.log(numbers | ({} if held_out is None else {"held_out_part": held_out}), report.step)
        if self.show is not None:
            left = report.seconds * (1 / max(report.fraction, 1e-9) - 1)
            self.show(
                Progress(
                    report.step, report.fraction, bits, speed, report.seconds, left, report.learning_rate,
                    held_out, sample,
                )
            )  # fmt: skip
