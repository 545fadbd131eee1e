"""`canton text generate`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer


def generate(
    model: Annotated[Path | None, typer.Argument(help="Model file (default: the pretrained model).")] = None,
    length: Annotated[int, typer.Option("--bytes", help="Bytes to generate.")] = 600,
    prompt: Annotated[str, typer.Option(help="Text to continue; -: read it from standard input.")] = "",
    temperature: Annotated[
        float, typer.Option(help="Divisor of the logits; 0: always take the likeliest byte.")
    ] = 1.0,
    top_k: Annotated[int, typer.Option(help="Sample from the k likeliest bytes; 0: from all.")] = 0,
    top_p: Annotated[
        float,
        typer.Option(help="Sample from the fewest likeliest bytes with this total probability."),
    ] = 1.0,
    seed: Annotated[int | None, typer.Option(help="Random seed (default: a random one).")] = None,
    stop: Annotated[str, typer.Option(help="Stop after this text (default: never).")] = "",
    precision: Annotated[str, typer.Option(help="float32, or int8: faster and less exact.")] = "float32",
    count: Annotated[int, typer.Option(help="Number of texts, with successive seeds.")] = 1,
    utf8: Annotated[bool, typer.Option("--utf8/--no-utf8", help="Generate well-formed UTF-8 only.")] = True,
) -> None:
    """Generate text. It goes to standard output as it is sampled, without the prompt."""
    from canton.cli.models import TEXT, open_model
    from canton.errors import UserError
    from canton.text import generate, load_model

    if count < 1:
        raise UserError(f"count must be >= 1, got {count}")
    if seed is not None and seed < 0:
        raise UserError(f"seed must be >= 0, got {seed}")
    start = sys.stdin.buffer.read() if prompt == "-" else os.fsencode(prompt)
    first = int.from_bytes(os.urandom(4), "little") if seed is None else seed
    network = open_model(model, TEXT, load_model).model
    out = sys.stdout.buffer
    for k in range(count):
        texts = generate(
            network,
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
            out.write(_printable(text) if sys.stdout.isatty() else text)
            out.flush()
        if count > 1 or sys.stdout.isatty():
            out.write(b"\n")
            out.flush()


def _printable(text: bytes) -> bytes:
    """Replace control characters, which a terminal would obey, by spaces."""
    return bytes(byte if (byte >= 0x20 and byte != 0x7F) or byte in b"\t\n" else 0x20 for byte in text)
