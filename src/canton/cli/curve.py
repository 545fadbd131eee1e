"""The picture of a run, beside its model."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from canton.training.curve import Curve


def draw_beside(model: Path, curve: Curve, *, unit: str) -> str:
    """Draw `curve` beside the model file; returns the line to tell of it.

    Without matplotlib nothing is drawn, and the line says what to install.
    """
    path = model.with_name(model.name.removesuffix(".safetensors") + ".curve.png")
    if find_spec("matplotlib") is None:
        return f"{path} was not drawn: it needs matplotlib (pip install 'canton-torch[plot]')"
    from canton.training.curve import draw_curve

    draw_curve(path, curve, unit=unit)
    return f"how it went is drawn in {path}"
