"""Loss curve of a run: stored in the model file, and plotted."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from canton.errors import UserError, require
from canton.io.atomic import atomic_write
from canton.training.settings import check_entries

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_POINTS = 400
"""Neighbouring points are merged when there are more."""
COLOURS = ("#0f766e", "#ea580c", "#6d28d9", "#b45309", "#1d4ed8", "#52525b")
INK, FAINT = "#3f3f46", "#a1a1aa"


class Curve:
    """The loss of a run over its steps.

    points: (step, seconds since the start, mean loss since the previous point).
    held_out: (step, held-out score).
    """

    def __init__(self) -> None:
        self.points: list[tuple[int, float, float]] = []
        self.held_out: list[tuple[int, float]] = []

    @classmethod
    def from_json(cls, table: dict[str, Any] | None) -> Curve:
        """Return the curve of the output of `to_json`; an empty curve for None.

        Raises: UserError for any other table.
        """
        curve = cls()
        if table is not None:
            if set(table) != {"points", "held_out"}:
                raise UserError(f"curve must have points and held_out, got {sorted(table)[:4]}")
            hints = {
                "points": tuple[tuple[int, float, float], ...],
                "held_out": tuple[tuple[int, float], ...],
            }
            check_entries(table, hints)
            steps = [0, *(point[0] for point in table["points"])]
            if not all(before < step for before, step in pairwise(steps)):
                raise UserError("curve must have its points in the order of their steps")
            curve.points = [(int(step), float(s), float(loss)) for step, s, loss in table["points"]]
            curve.held_out = [(int(step), float(score)) for step, score in table["held_out"]]
        return curve

    def to_json(self) -> dict[str, Any]:
        """Return the curve as JSON values."""
        return {
            "points": [[step, round(seconds, 2), round(loss, 5)] for step, seconds, loss in self.points],
            "held_out": [[step, round(score, 5)] for step, score in self.held_out],
        }

    def add(self, step: int, seconds: float, loss: float) -> None:
        """Add a point, unless `loss` is NaN: then there was no step since the last one."""
        if math.isnan(loss):
            return
        self.points.append((step, seconds, loss))
        if len(self.points) > MAX_POINTS:
            self.points = _merge_pairs(self.points)


def _merge_pairs(points: list[tuple[int, float, float]]) -> list[tuple[int, float, float]]:
    """Merge points in pairs, with losses weighted by steps; an odd last point stays."""
    merged, start = [], 0
    for (middle, _, first), (end, seconds, second) in zip(points[::2], points[1::2], strict=False):
        weight = (middle - start) / (end - start)
        merged.append((end, seconds, weight * first + (1 - weight) * second))
        start = end
    return merged + points[len(merged) * 2 :]


def plot_curve(path: Path, curve: Curve, *, unit: str) -> None:
    """Plot the loss over the steps, with a dot for each held-out score.

    unit: label of the loss axis.

    Raises: UserError for a file type that matplotlib cannot write; MissingExtra without matplotlib.
    """
    figure, axes = new_axes()
    axes.plot([step for step, _, _ in curve.points], [loss for *_, loss in curve.points], label="training")
    if curve.held_out:
        axes.plot(*zip(*curve.held_out, strict=True), "o", markersize=4.5, label="held out")
        axes.legend(frameon=False)
    axes.set(xlabel="steps", ylabel=unit)
    if curve.points:
        # the first steps fall so far that the rest would look flat
        rest = [loss for *_, loss in curve.points[len(curve.points) // 20 :]]
        shown = [*rest, *(score for _, score in curve.held_out)]
        margin = 0.05 * (max(shown) - min(shown)) or 0.05
        axes.set_ylim(min(shown) - margin, max(shown) + margin)
        axes.set_title(
            f"{curve.points[-1][0]:,} steps in {curve.points[-1][1]:,.0f} s", loc="left", size=9, color=INK
        )
    save_figure(figure, path)


def new_axes() -> tuple[Figure, Axes]:
    """Return an empty figure in the style of all plots, and its axes.

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
    """Check the type of a plot's file.

    Raises: UserError for a type that matplotlib cannot write; MissingExtra without matplotlib.
    """
    require("matplotlib", extra="plot")
    from matplotlib.backend_bases import FigureCanvasBase

    if path.suffix.lstrip(".").lower() not in FigureCanvasBase.get_supported_filetypes():
        raise UserError(f"a plot must be .png, .svg or .pdf, got {path}")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure atomically.

    Raises: as `check_plot`.
    """
    check_plot(path)
    with atomic_write(path) as file:
        figure.savefig(file, format=path.suffix.lstrip(".").lower(), dpi=160)
