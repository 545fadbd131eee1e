"""Progress reports of a training run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import NamedTuple

from canton.text.config import Sampling, TrainConfig
from canton.text.corpus import Corpus
from canton.text.generate import generate
from canton.text.held_out import PART_WINDOWS, HeldOut, score_held_out
from canton.text.model import ByteModel
from canton.text.saturation import saturated_starts
from canton.training.checkpoint import Checkpoint
from canton.training.curve import Curve
from canton.training.fit import Report

MAX_SATURATED = 0.02
MAX_RISE = 0.5
"""A run has diverged if a larger fraction of starts saturates, or the held-out score rises by more bits."""


class Progress(NamedTuple):
    """The state of a training run.

    Attributes:
        step: steps done.
        fraction: of the run that is done, 0 to 1.
        bits_per_byte: on the training text since the last report.
        bytes_per_second: training speed.
        seconds, seconds_left: since the start, and estimated until the end.
        learning_rate: of the last step.
        held_out: score on part of the held-out text by the averaged weights, if just scored, else None.
        saturated: fraction of random starts after which most channels are saturated, if just tested.
        rollbacks: how often the run diverged and went back.
        sample: bytes that the model has just generated, else None.
    """

    step: int
    fraction: float
    bits_per_byte: float
    bytes_per_second: float
    seconds: float
    seconds_left: float
    learning_rate: float
    held_out: HeldOut | None
    sample: bytes | None
    saturated: float | None
    rollbacks: int


class ProgressMonitor:
    """A converter of the training loop's reports to `Progress`; pass it to `fit` as `on_report`.

    It measures speed and time left, logs to TensorBoard and adds to the curve. `config.eval_count` times in a
    run it scores part of the held-out text, tests random starts and generates a sample.

    Args:
        model: the weights that are scored.
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
        self.step_bytes = config.batch_size * config.sequence_length * config.accumulate
        self.last_step = checkpoint.step if checkpoint else 0
        self.last_seconds = checkpoint.seconds if checkpoint else 0.0
        self.last_eval, self.eval_seconds = -1, 0.0
        self.best = math.inf

    def __call__(self, report: Report) -> bool | None:
        bits = report.loss / math.log(2)
        seconds = max(report.seconds - self.last_seconds - self.eval_seconds, 1e-9)
        speed = (report.step - self.last_step) * self.step_bytes / seconds
        self.last_step, self.last_seconds = report.step, report.seconds
        start = time.monotonic()
        held_out, saturated, sample = self._evaluate(report)
        self.eval_seconds = time.monotonic() - start
        self.curve.add(report.step, report.seconds, bits)
        if held_out is not None:
            self.curve.held_out.append((report.step, held_out.warm))
        numbers = {"bits_per_byte": bits, "learning_rate": report.learning_rate, "bytes_per_second": speed}
        self.log(numbers | ({} if held_out is None else _log_names(held_out, saturated)), report.step)
        if self.on_progress is not None:
            left = report.seconds * (1 / max(report.fraction, 1e-9) - 1)
            self.on_progress(
                Progress(
                    report.step, report.fraction, bits, speed, report.seconds, left, report.learning_rate,
                    held_out, sample, saturated, report.rollbacks,
                )
            )  # fmt: skip
        if held_out is None or saturated is None:
            return None
        good = saturated <= MAX_SATURATED and held_out.warm < self.best + MAX_RISE
        self.best = min(self.best, held_out.warm)
        return good

    def _evaluate(self, report: Report) -> tuple[HeldOut | None, float | None, bytes | None]:
        """Return score, saturated starts and a sample if an evaluation is due; not for the first report."""
        due = int(report.fraction * self.eval_count)
        if report.stopped or not self.last_eval < due < self.eval_count:
            return None, None, None
        first = self.last_eval < 0 and due == 0
        self.last_eval = due
        if first:
            return None, None, None
        held_out = score_held_out(self.model, self.corpus, max_windows=PART_WINDOWS)
        saturated = saturated_starts(self.model, self.corpus, seed=due)
        sample = None
        if self.on_progress is not None:
            sample = b"".join(generate(self.model, 160, seed=due, sampling=Sampling(temperature=0.8)))
        return held_out, saturated, sample


def _log_names(held_out: HeldOut, saturated: float | None) -> dict[str, float]:
    numbers = {"held_out_part": held_out.warm, "held_out_part_cold": held_out.cold}
    return numbers if saturated is None else numbers | {"saturated_starts": saturated}
