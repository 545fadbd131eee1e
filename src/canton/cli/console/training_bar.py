"""Progress of a training run in the terminal."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

if TYPE_CHECKING:
    from types import TracebackType

    from canton.text import Progress as TextProgress
    from canton.track.train import Progress as TrackProgress

BLOCKS = "▁▂▃▄▅▆▇█"
FIGURES_WIDTH = 74
"""Columns of the percentage and the figures; the bar takes the rest."""


def sparkline(values: list[float]) -> str:
    """Return one block for each value, scaled between the minimum and the maximum."""
    if not values:
        return ""
    low, high = min(values), max(values)
    scale = (len(BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(BLOCKS[round((value - low) * scale)] for value in values)


def clock(seconds: float) -> str:
    """65 -> "1:05"."""
    whole = max(0, round(seconds))
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


class _Figures(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(str(task.fields.get("figures", "")), style="cyan", no_wrap=True)


class TrainingBar:
    """Show the progress of a run on standard error: a bar in a terminal, else a line for every tenth.

    Pass `show_text`, or `show_track`, `show_decoding` and `warn`, to the training function as callbacks.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet, highlight=False)
        self.live = self.console.is_terminal and not quiet
        width = max(6, min(40, self.console.width - FIGURES_WIDTH))
        self.bar = Progress(
            TextColumn("{task.percentage:>3.0f}%"),
            BarColumn(bar_width=width),
            _Figures(),
            console=self.console,
            transient=True,
            disable=not self.live,
        )
        self.task = self.bar.add_task("training", total=1.0, figures="starting")
        self.losses: deque[float] = deque(maxlen=16 if self.console.width >= 100 else 8)
        self.held_out: float | None = None
        self.last_line = -1.0
        self.rollbacks = 0

    def __enter__(self) -> TrainingBar:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def show_text(self, now: TextProgress) -> None:
        """Show the progress of a text model, and its sample if there is one."""
        loss, history = self._loss(now.bits_per_byte)
        self.held_out = self.held_out if now.held_out is None else now.held_out.warm
        held_out = "" if self.held_out is None else f" · held out {self.held_out:.3f}"
        if now.saturated:
            self.warn(f"from {now.saturated:.1%} of random starts the state saturates (step {now.step:,})")
        if now.rollbacks > self.rollbacks:
            self.rollbacks = now.rollbacks
            self.warn(f"the run diverged: it went back to step {now.step:,}, at half the learning rate")
        speed = f"{now.bytes_per_second / 1e3:.1f} kB/s"
        self._show(now, f"{loss:.3f} bits/byte {history}{held_out} · {speed}")
        if now.sample is not None:
            self.console.print(Text(_one_paragraph(now.sample), style="dim"))

    def show_track(self, now: TrackProgress) -> None:
        """Show the progress of a tracking model."""
        loss, history = self._loss(now.loss)
        self._show(now, f"loss {loss:.3f} {history} · {now.frames_per_second:.0f} frames/s")

    def show_decoding(self, done: int, total: int) -> None:
        """Show how many clips are decoded."""
        self.bar.update(self.task, completed=done / total, figures=f"decoding clip {done} of {total}")

    def warn(self, line: str) -> None:
        """Print a warning."""
        self.console.print(f"canton: {line}", soft_wrap=True, markup=False)

    def _loss(self, loss: float) -> tuple[float, str]:
        if loss == loss:  # NaN: no step since the last report
            self.losses.append(loss)
        return self.losses[-1] if self.losses else loss, sparkline(list(self.losses))

    def _show(self, now: TextProgress | TrackProgress, figures: str) -> None:
        figures += f" · {clock(now.seconds_left)} left"
        self.bar.update(self.task, completed=now.fraction, figures=figures)
        if not self.live and (now.fraction - self.last_line >= 0.1 or now.fraction >= 1):
            self.console.print(f"{now.fraction:4.0%}  step {now.step:,}  {figures}", soft_wrap=True)
            self.last_line = now.fraction


def _one_paragraph(sample: bytes) -> str:
    """Return a sample as one paragraph, without control characters, which a terminal would obey."""
    text = sample.decode("utf-8", "replace")
    return "  " + " ".join("".join(c if c.isprintable() else " " for c in text).split())
