"""The command `canton track export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    model: Annotated[
        Path | None,
        typer.Argument(help="Model file, or pretrained model (visible, infrared). Default: visible."),
    ] = None,
    out: Annotated[Path, typer.Option(help="ONNX file to write.")] = Path("track.onnx"),
) -> None:
    """Export a model to ONNX. The state is an input and an output."""
    from canton.cli.models import VISIBLE, open_model
    from canton.cli.outputs import check_outputs
    from canton.track.checkpoint import load_model
    from canton.track.onnx import export_model

    check_outputs({"out": out}, inputs=[str(model)] if model else [])
    loaded = open_model(model, VISIBLE, load_model)
    export_model(loaded.model, out)
    typer.echo(str(out))
