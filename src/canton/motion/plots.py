"""Curves, drawn with matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from canton.errors import UserError, require
from canton.storage import replacing


def draw_recall(path: Path, curves: Mapping[str, Sequence[float]], fps: float) -> None:
    """Recall over the frames a memory has seen, one line a curve.

    Raises: UserError for a kind of picture matplotlib cannot write; MissingExtra without matplotlib.
    """
    require("matplotlib", extra="plot")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.add_subplot()
    for name, values in curves.items():
        axes.plot(range(1, len(values) + 1), values, marker="o", label=name)
    axes.set(xlabel=f"frames seen ({fps:g} a second)", ylabel="recall", ylim=(0, 1.03))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    kind = path.suffix.lstrip(".").lower()
    if kind not in figure.canvas.get_supported_filetypes():
        raise UserError(f"{path} ends in {path.suffix!r}: a plot is .png, .svg or .pdf")
    with replacing(path) as file:
        figure.savefig(file, format=kind, dpi=160)
