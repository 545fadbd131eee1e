"""Plots of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from canton.training.curve import new_axes, save_figure


def plot_recall(path: Path, curves: Mapping[str, Sequence[float]], fps: float) -> None:
    """Plot recall over the frames since the state was empty, one line per curve.

    Raises:
        UserError: matplotlib cannot write this file format.
        MissingExtra: matplotlib is not installed.
    """
    figure, axes = new_axes()
    for name, values in curves.items():
        axes.plot(range(1, len(values) + 1), values, marker="o", markersize=4.5, label=name)
    axes.set(xlabel=f"frames ({fps:g} per second)", ylabel="recall", ylim=(0, 1.03))
    axes.legend(frameon=False)
    save_figure(figure, path)
