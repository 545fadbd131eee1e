"""`canton text generate`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from canton.errors import UserError

if TYPE_CHECKING:
    from canton.text import TextGenerator


def generate(
    model: Annotated[Path | None, typer.Argument(help="Model file (default: the pretrained model).")] = None,
    length: Annotated[int, typer.Option("--bytes", help="Bytes to generate.")] = 600,
    prompt: Annotated[
        str | None, typer.Option(help="Text to continue; -: read it from standard input.")
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(help="File with one prompt a line, each to be continued; -: standard input."),
    ] = None,
    interactive: Annotated[
        bool,
        typer.Option(
            "--interactive",
            "-i",
            help="Read lines from standard input and continue the text after each. "
            "An empty line lets the model go on.",
        ),
    ] = False,
    escape: Annotated[
        bool,
        typer.Option("--escape", "-e", help="Replace \\n, \\t, \\xNN and the like in prompts and --stop."),
    ] = False,
    echo: Annotated[bool, typer.Option("--echo", help="Print the prompt before the text.")] = False,
    temperature: Annotated[
        float, typer.Option(help="Divisor of the logits; 0: always take the likeliest byte.")
    ] = 1.0,
    top_k: Annotated[int, typer.Option(help="Sample from the k likeliest bytes; 0: from all.")] = 0,
    top_p: Annotated[
        float, typer.Option(help="Sample from the fewest likeliest bytes with this total probability.")
    ] = 1.0,
    min_p: Annotated[
        float,
        typer.Option(
            help="Sample from the bytes with at least this fraction of the likeliest byte's probability."
        ),
    ] = 0.0,
    repetition_penalty: Annotated[
        float,
        typer.Option(
            help="Divide the positive logits of the bytes in the repetition window by this, and multiply "
            "the negative ones; 1: no penalty."
        ),
    ] = 1.0,
    repetition_window: Annotated[
        int,
        typer.Option(help="Last bytes of the text, prompt included, that the repetition penalty applies to."),
    ] = 64,
    logit_bias: Annotated[
        list[str] | None,
        typer.Option(
            metavar="BYTE+BIAS",
            help="Add a bias to a byte's logit: 10-5, 0x41+2.5. May be given several times.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Random seed (default: a random one).")] = None,
    stop: Annotated[str, typer.Option(help="Stop after this text (default: never).")] = "",
    precision: Annotated[str, typer.Option(help="float32, or int8: faster and less exact.")] = "float32",
    count: Annotated[int, typer.Option(help="Texts for each prompt, with successive seeds.")] = 1,
    json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print a line of JSON for each text: prompt, text, bytes, bits, bits_per_byte, seed.",
        ),
    ] = False,
    utf8: Annotated[bool, typer.Option("--utf8/--no-utf8", help="Generate well-formed UTF-8 only.")] = True,
) -> None:
    """Generate text. It goes to standard output as it is sampled, without the prompt."""
    from canton.cli.models import TEXT, open_model
    from canton.cli.text.prompts import encode, parse_logit_bias, read_prompts
    from canton.text import Sampling, TextGenerator, load_model

    if count < 1:
        raise UserError(f"count must be >= 1, got {count}")
    if length < 0:
        raise UserError(f"bytes must be >= 0, got {length}")
    if seed is not None and seed < 0:
        raise UserError(f"seed must be >= 0, got {seed}")
    if prompt is not None and prompts is not None:
        raise UserError("--prompt and --prompts cannot be used together: put the text into the file")
    taken = [name for name, value in (("prompts", prompts), ("json", json), ("count", count > 1)) if value]
    if interactive and (taken or prompt == "-"):
        other = f"--{taken[0]}" if taken else "--prompt -"
        raise UserError(f"--interactive cannot be used with {other}")
    sampling = Sampling(
        temperature, top_k, top_p, min_p, repetition_penalty, repetition_window,
        parse_logit_bias(logit_bias or []),
    )  # fmt: skip
    end = encode(stop, "stop", escape=escape)
    if prompts is not None:
        starts = read_prompts(prompts, escape=escape)
    elif prompt == "-":
        starts = [sys.stdin.buffer.read()]
    else:
        starts = [encode(prompt or "", "prompt", escape=escape)]
    first = int.from_bytes(os.urandom(4), "little") if seed is None else seed
    network = open_model(model, TEXT, load_model).model
    generator = TextGenerator(network, sampling, only_utf8=utf8, precision=precision)
    if interactive:
        _converse(generator, starts[0], length, seed=first, stop=end, escape=escape, echo=echo)
        return
    total = len(starts) * count
    for n, start in enumerate(starts):
        context = generator.start(start)
        for k in range(count):
            texts = generator.generate(context, length, seed=first + k, stop=end)
            shown = start if echo else b""
            if json:
                parts = list(texts)
                text = b"".join(part.text for part in parts)
                bits = sum(float(part.bits.sum(dtype="float64")) for part in parts)
                typer.echo(_json_line(start, shown + text, len(text), bits, first + k))
                continue
            if total > 1:
                line = f"--- {n * count + k + 1} of {total}, seed {first + k}"
                print(line, file=sys.stderr, flush=True)
            _write(shown)
            for part in texts:
                _write(part.text)
            if total > 1 or sys.stdout.isatty():
                _write(b"\n")


def _converse(
    generator: TextGenerator, prompt: bytes, length: int, *, seed: int, stop: bytes, escape: bool, echo: bool
) -> None:
    """Continue one text in turns: a line of standard input, then generated bytes. Ctrl-C ends a turn."""
    from canton.cli.text.prompts import unescape

    context = generator.start(prompt)
    if echo:
        _write(prompt)
    while True:
        if sys.stdin.isatty():
            print("> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.buffer.readline()
        if not line:
            return
        text = line.removesuffix(b"\n").removesuffix(b"\r")
        try:
            context = generator.read(context, unescape(text, "line") if escape else text)
        except UserError as error:
            if not sys.stdin.isatty():
                raise
            print(f"canton: {error}", file=sys.stderr)
            continue
        try:
            for part in generator.generate(context, length, seed=seed, stop=stop):
                _write(part.text)
                context = part.context
        except KeyboardInterrupt:
            pass
        _write(b"\n")
        seed += 1


def _json_line(prompt: bytes, text: bytes, count: int, bits: float, seed: int) -> str:
    """Return a line of JSON. What is not UTF-8 is given as base64, under another name."""
    import json

    row: dict[str, object] = {**_json_text("prompt", prompt), **_json_text("text", text)}
    row |= {"bytes": count, "bits": bits, "bits_per_byte": bits / count if count else None, "seed": seed}
    return json.dumps(row, ensure_ascii=False)


def _json_text(name: str, text: bytes) -> dict[str, str]:
    from base64 import b64encode

    try:
        return {name: text.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": b64encode(text).decode()}


def _write(text: bytes) -> None:
    out = sys.stdout.buffer
    out.write(_printable(text) if sys.stdout.isatty() else text)
    out.flush()


def _printable(text: bytes) -> bytes:
    """Replace control characters, which a terminal would obey, by spaces."""
    return bytes(byte if (byte >= 0x20 and byte != 0x7F) or byte in b"\t\n" else 0x20 for byte in text)
