"""`canton text compress` and `canton text decompress`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from canton.errors import UserError

if TYPE_CHECKING:
    from canton.text import ByteModel

SUFFIX = ".cntz"


def compress(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="[MODEL] FILE",
            help="File to compress, -: standard input. Before it a model (default: the pretrained model).",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help=f"File to write (default: FILE{SUFFIX}).")
    ] = None,
) -> None:
    """Compress FILE with a model: about as many bits as score prints. To decompress takes the same model."""
    from canton.io.atomic import atomic_write
    from canton.text.compress import compress

    network, file = _open(what, "compress")
    if out is None and file == "-":
        raise UserError("--out must be given to compress standard input")
    out = Path(file + SUFFIX) if out is None else out
    _check_out(out, what)
    text = _read(file)
    compressed = compress(network, text)
    with atomic_write(out) as opened:
        opened.write(compressed)
    bits = f", {8 * len(compressed) / len(text):.3f} bits per byte" if text else ""
    typer.echo(f"{len(text):,} bytes to {len(compressed):,}{bits}: {out}")


def decompress(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="[MODEL] FILE",
            help="File to decompress. Before it the model of compress (default: the pretrained one).",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help=f"File to write (default: FILE without {SUFFIX})."),
    ] = None,
) -> None:
    """Decompress a file of canton text compress, on any machine."""
    from canton.io.atomic import atomic_write
    from canton.text.compress import decompress

    network, file = _open(what, "decompress")
    if out is None and not file.endswith(SUFFIX):
        raise UserError(f"--out must be given: the name of FILE does not end with {SUFFIX}, got {file}")
    out = Path(file.removesuffix(SUFFIX)) if out is None else out
    _check_out(out, what)
    try:
        text = decompress(network, _read(file))
    except UserError as error:
        raise UserError(f"{file}: {error}") from error
    with atomic_write(out) as opened:
        opened.write(text)
    typer.echo(f"{len(text):,} bytes: {out}")


def _open(what: list[str], command: str) -> tuple[ByteModel, str]:
    """Return the model and the file that the arguments name."""
    from canton.cli.models import TEXT, model_and_input, open_model
    from canton.text import load_model

    model, file = model_and_input(what, plural="files", command=command)
    return open_model(model, TEXT, load_model).model, file


def _check_out(out: Path, inputs: list[str]) -> None:
    from canton.cli.outputs import check_outputs

    check_outputs({"out": out}, inputs=inputs)
    if out.is_file():
        raise UserError(f"--out must be a new file, got {out}, which exists")


def _read(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        from canton.io.atomic import os_error_reason

        raise UserError(f"cannot read {file}: {os_error_reason(error)}") from error
