"""`canton text export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    model: Annotated[Path | None, typer.Argument(help="Model file (default: the pretrained model).")] = None,
    out: Annotated[Path, typer.Option(help="ONNX file to write.")] = Path("model.onnx"),
) -> None:
    """Export a model to ONNX. Its state is an input and an output of the graph."""
    from canton.cli.models import TEXT, open_model
    from canton.cli.outputs import check_outputs
    from canton.text.checkpoint import load_model
    from canton.text.onnx.model import export_model

    check_outputs({"out": out}, inputs=[str(model)] if model else [])
    loaded = open_model(model, TEXT, load_model)
    export_model(loaded.model, out)
    typer.echo(str(out))
