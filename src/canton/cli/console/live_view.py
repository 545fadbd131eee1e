"""Progress of `canton track watch` in the terminal."""

from __future__ import annotations

import time
from collections import deque
from statistics import quantiles
from typing import TYPE_CHECKING

from rich.bar import Bar
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from canton.cli.console.training_bar import clock, sparkline

if TYPE_CHECKING:
    from types import TracebackType

    from canton.track.pipeline import FrameResult

RECENT = 300
"""Frames that the current speed and latency are measured over."""
ROWS = 6
"""Tracks listed in the panel."""


class LiveView:
    """Show the progress on standard error: in a terminal a bar or a panel, else a line every few seconds.

    Args:
        name: of the video.
        total: number of frames, None if unknown.
        live: show the panel with scores and tracks.
        quiet: show nothing.
    """

    def __init__(self, name: str, total: int | None, live: bool, quiet: bool) -> None:
        self.console = Console(stderr=True, quiet=quiet, highlight=False)
        self._name, self._total, self._live = name, total, live
        self._window = Live(
            console=self.console, auto_refresh=False, transient=True, vertical_overflow="crop"
        )
        self._moving = self.console.is_terminal and not quiet
        self.frames = 0
        self._track_count = self._dropped = 0
        self._latencies: deque[float] = deque(maxlen=RECENT)
        self._scores: deque[float] = deque(maxlen=60)
        self._times: deque[float] = deque(maxlen=RECENT)
        self._started = self._shown = time.perf_counter()

    def __enter__(self) -> LiveView:
        if self._moving:
            self._window.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._seconds = time.perf_counter() - self._started
        if self._moving:
            self._window.stop()

    def show(self, result: FrameResult) -> None:
        """Record a result; redraw at most 10 times a second, or print a line every 5 s (1 s with `live`)."""
        now = time.perf_counter()
        self.frames += 1
        if self.frames == 1:
            self._started = now  # without the set-up
        self._track_count = max([self._track_count, *(track.id for track in result.tracks)])
        self._dropped = result.dropped_frames
        self._latencies.append(result.latency_ms)
        self._scores.append(result.max_score)
        self._times.append(now)
        if now - self._shown < (0.1 if self._moving else 1.0 if self._live else 5.0):
            return
        self._shown = now
        if not self._moving:
            self.console.print(self._line(result), soft_wrap=True)
        else:
            self._window.update(self._panel(result) if self._live else self._bar(), refresh=True)

    def summary(self, written: list[str]) -> str:
        """Return one line on the whole video."""
        if not self.frames:
            return "no frames"
        line = f"{self.frames:,} frames in {self._seconds:.1f} s"
        if self.frames > 1 and self._seconds > 0:
            line += f", {(self.frames - 1) / self._seconds:.0f} frames/s"
        line += f", latency {_median(self._latencies):.1f} ms; {self._count()}"
        if self._dropped:
            line += f"; {self._dropped:,} dropped frame{'' if self._dropped == 1 else 's'}"
        return f"{line}; wrote {', '.join(written)}" if written else line

    def _count(self) -> str:
        return f"{self._track_count} track{'' if self._track_count == 1 else 's'}"

    def _rate(self) -> float:
        span = self._times[-1] - self._times[0]
        return (len(self._times) - 1) / span if span > 0 else float("nan")

    def _speed(self) -> str:
        slow = quantiles(self._latencies, n=20)[-1] if len(self._latencies) > 1 else self._latencies[0]
        dropped = f" · {self._dropped:,} dropped" if self._dropped else ""
        return (
            f"{self._rate():.0f} frames/s · latency_ms {_median(self._latencies):.1f} "
            f"(95 % under {slow:.1f}){dropped}"
        )

    def _line(self, result: FrameResult) -> str:
        fraction = f"{self.frames / self._total:4.0%}  " if self._total else ""
        ids = ", ".join(str(track.id) for track in result.tracks) or "none"
        return (
            f"{fraction}frame {result.frame.index:,}  score {result.max_score:.2f}  tracks {ids}  "
            f"{self._speed()}"
        )

    def _bar(self) -> RenderableType:
        grid = Table.grid(expand=True, padding=(0, 1))
        grid.add_column(no_wrap=True)
        grid.add_column(ratio=1)
        grid.add_column(no_wrap=True)
        figures = Text(f"{self._speed()} · {self._count()}", style="cyan")
        if self._total:
            left = clock(max(0, self._total - self.frames) / self._rate()) if self.frames > 1 else "?"
            fraction = min(1.0, self.frames / self._total)
            grid.add_row(
                f"{fraction:4.0%}", Bar(1.0, 0.0, fraction, color="cyan"), figures + Text(f" · {left} left")
            )
        else:
            grid.add_row(f"{self.frames:,} frames", "", figures)
        return grid

    def _panel(self, result: FrameResult) -> RenderableType:
        scores = Table.grid(expand=True, padding=(0, 1))
        scores.add_column(no_wrap=True, width=12)
        scores.add_column(ratio=1)
        scores.add_column(no_wrap=True, width=6, justify="right")
        level = result.max_score
        colour = "bright_red" if level >= 0.8 else "yellow" if level >= 0.5 else "bright_black"
        scores.add_row("max score", Bar(1.0, 0.0, level, color=colour), f"{level:.2f}")
        history = sparkline([0.0, *self._scores, 1.0])[1:-1]  # scaled from 0 to 1
        scores.add_row("  last 60", Text(history, style=colour, no_wrap=True, overflow="crop"), "")

        tracks = Table(expand=True, box=None, header_style="dim", padding=(0, 1))
        for name in ("track", "x", "y", "w", "h", "score", "frames"):
            tracks.add_column(name, justify="right")
        for track in result.tracks[:ROWS]:
            x, y = track.box.centre
            tracks.add_row(
                f"[bold]{track.id}[/]",
                *(f"{number:.1f}" for number in (x, y, track.box.width, track.box.height)),
                f"{track.score:.2f}",
                f"{track.age:,}",
            )
        for _ in range(ROWS - len(result.tracks)):  # the panel keeps its height
            tracks.add_row()
        seconds = result.frame.seconds
        below = Text(f"{clock(seconds)} · frame {result.frame.index:,} · {self._speed()}", style="cyan")
        # Text, not markup: a file may be called [red].mp4
        return Panel(Group(scores, tracks, below), title=Text(self._name), title_align="left")


def _median(values: deque[float]) -> float:
    return sorted(values)[len(values) // 2]
