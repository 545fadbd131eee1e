"""What is on the screen while a video is watched: progress, frames/s and latency, or a live read-out."""

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
"""Frames that figures of the moment are taken from."""
ROWS = 6
"""Tracks listed in the read-out."""


class Screen:
    """Shows what is seen, on standard error: in a terminal a bar, or with `live` a read-out; elsewhere a line
    now and then.

    name: of what is watched. total: how many frames, None where nobody knows.
    """

    def __init__(self, name: str, total: int | None, live: bool, quiet: bool) -> None:
        self.console = Console(stderr=True, quiet=quiet, highlight=False)
        self._name, self._total, self._full = name, total, live
        self._window = Live(
            console=self.console, auto_refresh=False, transient=True, vertical_overflow="crop"
        )
        self._moving = self.console.is_terminal and not quiet
        self.frames = 0
        self._highest = self._left_out = 0
        self._latencies: deque[float] = deque(maxlen=RECENT)
        self._beliefs: deque[float] = deque(maxlen=60)
        self._moments: deque[float] = deque(maxlen=RECENT)
        self._begun = self._shown = time.perf_counter()

    def __enter__(self) -> Screen:
        if self._moving:
            self._window.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._seconds = time.perf_counter() - self._begun
        if self._moving:
            self._window.stop()

    def show(self, result: FrameResult) -> None:
        """Take note of a frame; draw at most ten times a second, write at most a line in five."""
        now = time.perf_counter()
        self.frames += 1
        if self.frames == 1:
            self._begun = now  # what came before was set-up
        self._highest = max([self._highest, *(track.id for track in result.tracks)])
        self._left_out = result.dropped_frames
        self._latencies.append(result.latency_ms)
        self._beliefs.append(result.max_score)
        self._moments.append(now)
        if now - self._shown < (0.1 if self._moving else 1.0 if self._full else 5.0):
            return
        self._shown = now
        if not self._moving:
            self.console.print(self._line(result), soft_wrap=True)
        else:
            self._window.update(self._readout(result) if self._full else self._bar(), refresh=True)

    def summary(self, written: list[str]) -> str:
        """One line on all of it."""
        if not self.frames:
            return "no frame was seen"
        line = f"{self.frames:,} frames in {self._seconds:.1f} s"
        if self.frames > 1 and self._seconds > 0:
            line += f", {(self.frames - 1) / self._seconds:.0f} frames/s"
        line += f", latency {_middle(self._latencies):.1f} ms; {self._count()}"
        if self._left_out:
            line += f"; {self._left_out:,} frame{'' if self._left_out == 1 else 's'} left out"
        return f"{line}; written: {', '.join(written)}" if written else line

    def _count(self) -> str:
        return f"{self._highest} track{'' if self._highest == 1 else 's'}"

    def _rate(self) -> float:
        span = self._moments[-1] - self._moments[0]
        return (len(self._moments) - 1) / span if span > 0 else float("nan")

    def _figures(self) -> str:
        slow = quantiles(self._latencies, n=20)[-1] if len(self._latencies) > 1 else self._latencies[0]
        left_out = f" · {self._left_out:,} left out" if self._left_out else ""
        return (
            f"{self._rate():.0f} frames/s · latency_ms {_middle(self._latencies):.1f} "
            f"(95 % under {slow:.1f}){left_out}"
        )

    def _line(self, result: FrameResult) -> str:
        share = f"{self.frames / self._total:4.0%}  " if self._total else ""
        ids = ", ".join(str(track.id) for track in result.tracks) or "none"
        return (
            f"{share}frame {result.frame.index:,}  belief {result.max_score:.2f}  tracks {ids}  "
            f"{self._figures()}"
        )

    def _bar(self) -> RenderableType:
        grid = Table.grid(expand=True, padding=(0, 1))
        grid.add_column(no_wrap=True)
        grid.add_column(ratio=1)
        grid.add_column(no_wrap=True)
        figures = Text(f"{self._figures()} · {self._count()}", style="cyan")
        if self._total:
            left = clock(max(0, self._total - self.frames) / self._rate()) if self.frames > 1 else "?"
            share = min(1.0, self.frames / self._total)
            grid.add_row(
                f"{share:4.0%}", Bar(1.0, 0.0, share, color="cyan"), figures + Text(f" · {left} left")
            )
        else:
            grid.add_row(f"{self.frames:,} frames", "", figures)
        return grid

    def _readout(self, result: FrameResult) -> RenderableType:
        belief = Table.grid(expand=True, padding=(0, 1))
        belief.add_column(no_wrap=True, width=12)
        belief.add_column(ratio=1)
        belief.add_column(no_wrap=True, width=6, justify="right")
        level = result.max_score
        colour = "bright_red" if level >= 0.8 else "yellow" if level >= 0.5 else "bright_black"
        belief.add_row("belief", Bar(1.0, 0.0, level, color=colour), f"{level:.2f}")
        history = sparkline([0.0, *self._beliefs, 1.0])[1:-1]  # drawn between 0 and 1
        belief.add_row("  last 60", Text(history, style=colour, no_wrap=True, overflow="crop"), "")

        tracks = Table(expand=True, box=None, header_style="dim", padding=(0, 1))
        for name in ("track", "x", "y", "w", "h", "score", "frames seen"):
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
        below = Text(f"{clock(seconds)} · frame {result.frame.index:,} · {self._figures()}", style="cyan")
        # Text, not markup: a file may be called [red].mp4
        return Panel(Group(belief, tracks, below), title=Text(self._name), title_align="left")


def _middle(values: deque[float]) -> float:
    return sorted(values)[len(values) // 2]
