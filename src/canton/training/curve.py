"""How a run went: its loss over the steps, kept in the model file, so that it outlives a break, and drawn."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from canton.errors import UserError, require
from canton.io.atomic import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 400
"""Points a curve keeps at most; beyond, neighbours are merged."""
COLOURS = ("#0f766e", "#ea580c", "#6d28d9", "#b45309", "#1d4ed8", "#52525b")
INK, FAINT = "#3f3f46", "#a1a1aa"


class Curve:
    """A run's loss over its steps, and what the held-out part was scored with on the way.

    points: (step, seconds since the beginning, mean loss since the point before).
    held_out: (step, score).
    """

    def __init__(self) -> None:
        self.points: list[tuple[int, float, float]] = []
        self.held_out: list[tuple[int, float]] = []

    @classmethod
    def from_json(cls, table: dict[str, Any] | None) -> Curve:
        """What `to_json` gave; a new curve for None."""
        curve = cls()
        if table is not None:
            curve.points = [(int(step), float(s), float(loss)) for step, s, loss in table["points"]]
            curve.held_out = [(int(step), float(score)) for step, score in table["held_out"]]
        return curve

    def to_json(self) -> dict[str, Any]:
        """The curve as JSON holds it."""
        return {
            "points": [[step, round(seconds, 2), round(loss, 5)] for step, seconds, loss in self.points],
            "held_out": [[step, round(score, 5)] for step, score in self.held_out],
        }

    def note(self, step: int, seconds: float, loss: float) -> None:
        """One more point; a NaN, which a last report with nothing new has, is left out."""
        if math.isnan(loss):
            return
        self.points.append((step, seconds, loss))
        if len(self.points) > MOST:
            self.points = _merged(self.points)


def _merged(points: list[tuple[int, float, float]]) -> list[tuple[int, float, float]]:
    """Every two neighbours as one; an odd last point stays as it is."""
    merged, begun = [], 0
    for (middle, _, first), (end, seconds, second) in zip(points[::2], points[1::2], strict=False):
        share = (middle - begun) / (end - begun)
        merged.append((end, seconds, share * first + (1 - share) * second))
        begun = end
    return merged + points[len(merged) * 2 :]


def draw_curve(path: Path, curve: Curve, *, unit: str) -> None:
    """A picture of a run: the loss over its steps, and dots where the held-out part was scored.

    unit: what the loss counts, for the axis.

    Raises: UserError for a kind of picture matplotlib cannot write; MissingExtra without matplotlib.
    """
    figure, axes = new_axes()
    axes.plot([step for step, _, _ in curve.points], [loss for *_, loss in curve.points], label="training")
    if curve.held_out:
        axes.plot(*zip(*curve.held_out, strict=True), "o", markersize=4.5, label="held out")
        axes.legend(frameon=False)
    axes.set(xlabel="steps", ylabel=unit)
    if curve.points:
        # the fall of the first steps would press all the rest flat
        rest = [loss for *_, loss in curve.points[len(curve.points) // 20 :]]
        seen = [*rest, *(score for _, score in curve.held_out)]
        room = 0.05 * (max(seen) - min(seen)) or 0.05
        axes.set_ylim(min(seen) - room, max(seen) + room)
        axes.set_title(
            f"{curve.points[-1][0]:,} steps in {curve.points[-1][1]:,.0f} s", loc="left", size=9, color=INK
        )
    write_figure(figure, path)


def new_axes() -> tuple[Figure, Axes]:
    """An empty figure with the size and the look that all of Canton's plots have, and its axes.

    Raises: MissingExtra without matplotlib.
    """
    figure: Figure = require("matplotlib.figure", extra="plot").Figure(
        figsize=(6.4, 3.8), layout="constrained"
    )
    axes = figure.add_subplot()
    axes.set_prop_cycle(color=COLOURS)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(color=FAINT, labelcolor=INK)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    axes.grid(color=FAINT, alpha=0.4, linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def check_plot(path: Path) -> None:
    """Raises: UserError for a kind of picture matplotlib cannot write; MissingExtra without matplotlib."""
    require("matplotlib", extra="plot")
    from matplotlib.backend_bases import FigureCanvasBase

    if path.suffix.lstrip(".").lower() not in FigureCanvasBase.get_supported_filetypes():
        raise UserError(f"{path} ends in {path.suffix!r}: a plot is .png, .svg or .pdf")


def write_figure(figure: Figure, path: Path) -> None:
    """Write a figure, whole or not at all.

    Raises: as `check_plot`.
    """
    check_plot(path)
    with atomic_write(path) as file:
        figure.savefig(file, format=path.suffix.lstrip(".").lower(), dpi=160)
