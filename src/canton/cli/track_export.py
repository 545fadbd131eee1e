"""`canton track export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    model: Annotated[Path, typer.Argument(help="A model file.")],
    out: Annotated[Path, typer.Option(help="Where to write the ONNX file.")] = Path("track.onnx"),
) -> None:
    """Write the model as an ONNX file, its memory going in and coming out."""
    from canton.errors import UserError
    from canton.motion.export import export_model
    from canton.motion.modelfile import load_model

    made = load_model(model).model
    try:
        export_model(made, out)
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error.strerror or error}") from error
    typer.echo(str(out))
