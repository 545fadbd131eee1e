"""`canton text generate`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer


def generate(
    model: Annotated[Path | None, typer.Argument(help="A model file; left out: the one shipped.")] = None,
    length: Annotated[int, typer.Option("--bytes", help="How many bytes to write.")] = 600,
    prompt: Annotated[str, typer.Option(help="What to continue; - reads it from standard input.")] = "",
    temperature: Annotated[float, typer.Option(help="0 always takes the likeliest byte.")] = 1.0,
    top_k: Annotated[int, typer.Option(help="Draw from the k likeliest bytes; 0 for all.")] = 0,
    top_p: Annotated[float, typer.Option(help="Draw from the likeliest bytes of this probability.")] = 1.0,
    seed: Annotated[int | None, typer.Option(help="The same seed, the same text.")] = None,
    stop: Annotated[str, typer.Option(help="End once this has been written.")] = "",
    precision: Annotated[str, typer.Option(help="float32; int8 is faster, less exact.")] = "float32",
    count: Annotated[int, typer.Option(help="How many texts.")] = 1,
    utf8: Annotated[bool, typer.Option("--utf8/--no-utf8", help="Write whole UTF-8 characters only.")] = True,
) -> None:
    """Write. The text goes to standard output as it is drawn; the prompt is not repeated."""
    from canton.cli.models import TEXT, open_model
    from canton.errors import UserError
    from canton.text import generate, load_model

    if count < 1:
        raise UserError(f"count is {count}: it is a whole number of at least 1")
    if seed is not None and seed < 0:
        raise UserError(f"seed is {seed}: it is a whole number of at least 0")
    start = sys.stdin.buffer.read() if prompt == "-" else os.fsencode(prompt)
    first = int.from_bytes(os.urandom(4), "little") if seed is None else seed
    writer = open_model(model, TEXT, load_model).model
    out = sys.stdout.buffer
    for k in range(count):
        texts = generate(
            writer,
            length,
            prompt=start,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=first + k,
            stop=os.fsencode(stop),
            only_utf8=utf8,
            precision=precision,
        )
        if count > 1:
            print(f"--- {k + 1} of {count}, seed {first + k}", file=sys.stderr, flush=True)
        for text in texts:
            out.write(_harmless(text) if sys.stdout.isatty() else text)
            out.flush()
        if count > 1 or sys.stdout.isatty():
            out.write(b"\n")
            out.flush()


def _harmless(text: bytes) -> bytes:
    """Without the control characters that could give a terminal orders."""
    return bytes(byte if (byte >= 0x20 and byte != 0x7F) or byte in b"\t\n" else 0x20 for byte in text)
