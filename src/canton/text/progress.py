"""Progress reports of a training run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import NamedTuple

from canton.text.config import Sampling, TrainConfig
from canton.text.corpus import Corpus
from canton.text.generate import generate
from canton.text.likelihood import bits_per_byte
from canton.text.model import ByteModel
from canton.training.checkpoint import Checkpoint
from canton.training.curve import Curve
from canton.training.fit import Report


class Progress(NamedTuple):
    """The state of a training run.

    Attributes:
        step: steps done.
        fraction: of the run that is done, 0 to 1.
        bits_per_byte: on the training text since the last report.
        bytes_per_second: training speed.
        seconds, seconds_left: since the start, and estimated until the end.
        learning_rate: of the last step.
        held_out: bits per byte on part of the held-out text, if just scored, else None.
        sample: bytes that the model has just generated, else None.
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


class ProgressMonitor:
    """A converter of the training loop's reports to `Progress`; pass it to `fit` as `on_report`.

    It measures speed and time left, logs to TensorBoard and adds to the curve. `config.eval_count` times in a
    run it generates a sample and scores part of the held-out text.
    """

    def __init__(
        self,
        model: ByteModel,
        corpus: Corpus,
        config: TrainConfig,
        on_progress: Callable[[Progress], None] | None,
        log: Callable[[dict[str, float], int], None],
        checkpoint: Checkpoint | None,
        curve: Curve,
    ) -> None:
        self.model, self.corpus, self.curve = model, corpus, curve
        self.on_progress, self.log, self.eval_count = on_progress, log, config.eval_count
        self.step_bytes = config.batch_size * config.sequence_length
        self.last_step = checkpoint.step if checkpoint else 0
        self.last_seconds = checkpoint.seconds if checkpoint else 0.0
        self.last_eval, self.eval_seconds = -1, 0.0

    def __call__(self, report: Report) -> None:
        bits = report.loss / math.log(2)
        seconds = max(report.seconds - self.last_seconds - self.eval_seconds, 1e-9)
        speed = (report.step - self.last_step) * self.step_bytes / seconds
        self.last_step, self.last_seconds = report.step, report.seconds
        start = time.monotonic()
        held_out, sample = self._evaluate(report)
        self.eval_seconds = time.monotonic() - start
        self.curve.add(report.step, report.seconds, bits)
        if held_out is not None:
            self.curve.held_out.append((report.step, held_out))
        numbers = {"bits_per_byte": bits, "learning_rate": report.learning_rate, "bytes_per_second": speed}
        self.log(numbers | ({} if held_out is None else {"held_out_part": held_out}), report.step)
        if self.on_progress is not None:
            left = report.seconds * (1 / max(report.fraction, 1e-9) - 1)
            self.on_progress(
                Progress(
                    report.step, report.fraction, bits, speed, report.seconds, left, report.learning_rate,
                    held_out, sample,
                )
            )  # fmt: skip

    def _evaluate(self, report: Report) -> tuple[float | None, bytes | None]:
        """Return a held-out score and a sample if an evaluation is due; not for the first report."""
        due = int(report.fraction * self.eval_count)
        if self.on_progress is None or report.stopped or not self.last_eval < due < self.eval_count:
            return None, None
        first = self.last_eval < 0 and due == 0
        self.last_eval = due
        if first:
            return None, None
        end = min(len(self.corpus), self.corpus.split + (1 << 14))
        held_out = bits_per_byte(self.model, self.corpus, self.corpus.split, end, warmup_bytes=512)
        sample = b"".join(generate(self.model, 160, seed=due, sampling=Sampling(temperature=0.8)))
        self.model.train()
        return held_out, sample
