"""Output files of the commands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from canton.errors import UserError

if TYPE_CHECKING:
    from canton.training.curve import Curve

STREAMED = ("json", "csv")
"""Options that accept - for standard output."""


def check_outputs(outputs: Mapping[str, Path | None], *, inputs: Iterable[str]) -> None:
    """Check the output options of a command before it starts.

    Args:
        outputs: path by option name; None if not given, - for standard output.
        inputs: files that the command reads.

    Raises: UserError if an output is another output or an input, or cannot be written.
    """
    from canton.io.atomic import check_writable

    read = {Path(name).resolve() for name in inputs}
    used, streamed = set[Path](), list[str]()
    for option, path in outputs.items():
        if path is None:
            continue
        if str(path) == "-":
            if option not in STREAMED:
                raise UserError(f"--{option} must be a file, got -")
            streamed.append(f"--{option}")
            continue
        if path.resolve() in read:
            raise UserError(f"--{option} must not be an input file, got {path}")
        if path.resolve() in used:
            raise UserError(f"outputs must be different files, got {path} twice")
        used.add(path.resolve())
        check_writable(path)
    if len(streamed) > 1:
        raise UserError(f"{' and '.join(streamed)} cannot both be -: one of them must be a file")


def plot_beside(model: Path, curve: Curve, *, unit: str) -> str:
    """Plot a run's loss next to its model file, and return the line to print.

    Without matplotlib there is no plot, and the line says what to install.
    """
    path = model.with_name(model.name.removesuffix(".safetensors") + ".curve.png")
    if find_spec("matplotlib") is None:
        return "no plot of the loss: it needs matplotlib (pip install 'canton-torch[plot]')"
    from canton.training.curve import plot_curve

    plot_curve(path, curve, unit=unit)
    return f"wrote the loss curve to {path}"
