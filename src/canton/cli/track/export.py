"""`canton track export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    model: Annotated[
        Path | None,
        typer.Argument(
            help="A model file, or one of those that ship: visible (left out: this one), infrared."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Where to write the ONNX file.")] = Path("track.onnx"),
) -> None:
    """Write the model as an ONNX file, its memories going in and coming out."""
    from canton.cli.models import VISIBLE, open_model
    from canton.cli.outputs import check_outputs
    from canton.track.checkpoint import load_model
    from canton.track.onnx import export_model

    check_outputs({"out": out}, inputs=[str(model)] if model else [])
    held = open_model(model, VISIBLE, load_model)
    export_model(held.model, out)
    typer.echo(str(out))
