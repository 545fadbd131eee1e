"""`canton text export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    model: Annotated[Path | None, typer.Argument(help="A model file; left out: the one shipped.")] = None,
    out: Annotated[Path, typer.Option(help="Where to write the ONNX file.")] = Path("model.onnx"),
) -> None:
    """Write the model as an ONNX file, its state going in and coming out."""
    from canton.cli.models import TEXT, open_model
    from canton.cli.outputs import check_outputs
    from canton.text.checkpoint import load_model
    from canton.text.onnx.model import export_model

    check_outputs({"out": out}, inputs=[str(model)] if model else [])
    held = open_model(model, TEXT, load_model)
    export_model(held.model, out)
    typer.echo(str(out))
