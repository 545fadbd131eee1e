"""What is on the screen while a model trains: a bar, figures, and now and then what the model writes."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

if TYPE_CHECKING:
    from types import TracebackType

    from canton.text import Progress as Now

BLOCKS = "▁▂▃▄▅▆▇█"
FIGURES_WIDTH = 74
"""Columns that the figures and the percentage take at most, on a narrow console."""


def sparkline(values: list[float]) -> str:
    """One block a value, its height between the least and the largest of them."""
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


def training_bar(console: Console, *, live: bool) -> Progress:
    """A bar with the task's `figures` beside it: they keep their room, it takes the rest."""
    return Progress(
        TextColumn("{task.percentage:>3.0f}%"),
        BarColumn(bar_width=max(6, min(40, console.width - FIGURES_WIDTH))),
        _Figures(),
        console=console,
        transient=True,
        disable=not live,
    )


def sparks(console: Console) -> int:
    """Blocks of a sparkline that the console has room for."""
    return 16 if console.width >= 100 else 8


class Screen:
    """Shows a run's progress on standard error: a live bar in a terminal, a line now and then elsewhere."""

    def __init__(self, *, minutes: float | None, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet, highlight=False)
        self.live = self.console.is_terminal and not quiet
        self.bar = training_bar(self.console, live=self.live)
        self.task = self.bar.add_task("training", total=1.0, figures="starting")
        self.bits: deque[float] = deque(maxlen=sparks(self.console))
        self.held_out: float | None = None
        self.last_line = -1.0

    def __enter__(self) -> Screen:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def show(self, now: Now) -> None:
        """Show the state of things."""
        if now.bits_per_byte == now.bits_per_byte:  # not NaN: the last report of a run may have nothing new
            self.bits.append(now.bits_per_byte)
        self.held_out = now.held_out or self.held_out
        latest = self.bits[-1] if self.bits else float("nan")
        held = "" if self.held_out is None else f" · held out {self.held_out:.3f}"
        figures = (
            f"{latest:.3f} bits/byte {sparkline(list(self.bits))}{held} · "
            f"{now.bytes_per_second / 1e3:.1f} kB/s · {clock(now.seconds_left)} left"
        )
        self.bar.update(self.task, completed=now.fraction, figures=figures)
        if now.sample is not None:
            self.console.print(Text(_one_paragraph(now.sample), style="dim"))
        if not self.live and (now.fraction - self.last_line >= 0.1 or now.fraction >= 1):
            self.console.print(f"{now.fraction:4.0%}  step {now.step:,}  {figures}", soft_wrap=True)
            self.last_line = now.fraction


def _one_paragraph(sample: bytes) -> str:
    """A sample on few lines, without the control characters that could give a terminal orders."""
    text = sample.decode("utf-8", "replace")
    return "  " + " ".join("".join(c if c.isprintable() else " " for c in text).split())
