"""Curves of an evaluation, drawn with matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from canton.training.curve import new_axes, save_figure


def plot_recall(path: Path, curves: Mapping[str, Sequence[float]], fps: float) -> None:
    """Recall over the frames a memory has seen, one line a curve.

    Raises: UserError for a kind of picture matplotlib cannot write; MissingExtra without matplotlib.
    """
    figure, axes = new_axes()
    for name, values in curves.items():
        axes.plot(range(1, len(values) + 1), values, marker="o", markersize=4.5, label=name)
    axes.set(xlabel=f"frames seen ({fps:g} a second)", ylabel="recall", ylim=(0, 1.03))
    axes.legend(frameon=False)
    save_figure(figure, path)
