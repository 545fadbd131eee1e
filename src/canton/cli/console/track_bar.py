"""What is on the screen while a tracking model trains: a bar, the loss, and the speed."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from rich.console import Console

from canton.cli.console.training_bar import clock, sparkline, sparks, training_bar

if TYPE_CHECKING:
    from types import TracebackType

    from canton.track.train import Progress as Now


class TrainScreen:
    """Shows a run's progress on standard error: a live bar in a terminal, a line now and then elsewhere."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet, highlight=False)
        self.live = self.console.is_terminal and not quiet
        self.bar = training_bar(self.console, live=self.live)
        self.task = self.bar.add_task("training", total=1.0, figures="starting")
        self.losses: deque[float] = deque(maxlen=sparks(self.console))
        self.last_line = -1.0

    def __enter__(self) -> TrainScreen:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def prepare(self, done: int, total: int) -> None:
        """Clips are being decoded."""
        self.bar.update(self.task, completed=done / total, figures=f"decoding clip {done} of {total}")

    def warn(self, line: str) -> None:
        """Something is wrong, and the work goes on."""
        self.console.print(f"canton: {line}", soft_wrap=True, markup=False)

    def show(self, now: Now) -> None:
        """Show the state of things."""
        if now.loss == now.loss:  # not NaN: the last report of a run may have nothing new
            self.losses.append(now.loss)
        latest = self.losses[-1] if self.losses else float("nan")
        figures = (
            f"loss {latest:.3f} {sparkline(list(self.losses))} · {now.frames_per_second:.0f} frames/s · "
            f"{clock(now.seconds_left)} left"
        )
        self.bar.update(self.task, completed=now.fraction, figures=figures)
        if not self.live and (now.fraction - self.last_line >= 0.1 or now.fraction >= 1):
            self.console.print(f"{now.fraction:4.0%}  step {now.step:,}  {figures}", soft_wrap=True)
            self.last_line = now.fraction
