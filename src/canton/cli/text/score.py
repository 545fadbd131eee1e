"""`canton text score`."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from canton.errors import UserError


def score(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="[MODEL] FILE",
            help="Text to score, -: standard input; several with --documents. Before it a model file "
            "(default: the pretrained model).",
        ),
    ],
    html: Annotated[Path | None, typer.Option(help="Write an HTML page of the surprisals.")] = None,
    json: Annotated[
        Path | None, typer.Option(help="Write the bits of every byte as JSON; -: to standard output.")
    ] = None,
    adapt: Annotated[
        bool, typer.Option("--adapt", help="Also score with dynamic evaluation: train while scoring.")
    ] = False,
    learning_rate: Annotated[
        float | None, typer.Option(help="With --adapt: learning rate (default: 0.001).")
    ] = None,
    decay: Annotated[
        float | None, typer.Option(help="With --adapt: pull back to the trained weights (default: 0.0003).")
    ] = None,
    colour: Annotated[
        bool | None,
        typer.Option(
            "--colour/--no-colour", help="Print the text coloured by surprisal (default: in a terminal)."
        ),
    ] = None,
    documents: Annotated[
        str | None,
        typer.Option(help="Score many documents, each by itself: file, line or jsonl. Writes --out."),
    ] = None,
    field: Annotated[
        str | None, typer.Option(help="With --documents jsonl: field of the text (default: text).")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="With --documents: JSON lines to write, one a document."),
    ] = None,
    workers: Annotated[int, typer.Option(help="With --documents: worker processes; 0: this process.")] = 0,
    shard: Annotated[
        str | None,
        typer.Option(help="With --documents: score part i of n, as i/n (default: from SLURM or torchrun)."),
    ] = None,
    skip_done: Annotated[
        bool, typer.Option("--skip-done", help="With --documents: keep the lines of --out, score the rest.")
    ] = False,
    word_bits: Annotated[
        bool, typer.Option("--word-bits", help="With --documents: add the bits of each word.")
    ] = False,
    line_bits: Annotated[
        bool, typer.Option("--line-bits", help="With --documents: add the bits of each line.")
    ] = False,
) -> None:
    """Print the bits per byte of FILE, and the surprisal of every byte."""
    if documents is not None:
        from canton.cli.text.documents import DocumentOptions, score_to_file

        for name, refused in (("html", html), ("json", json), ("adapt", adapt or None)):
            if refused is not None:
                raise UserError(f"--{name} has no effect with --documents: omit it")
        options = DocumentOptions(documents, field or "text", workers, shard, skip_done, word_bits, line_bits)
        score_to_file(what, out, options)
        return
    for name, given in (
        ("field", field), ("out", out), ("workers", workers), ("shard", shard),
        ("skip-done", skip_done), ("word-bits", word_bits), ("line-bits", line_bits),
    ):  # fmt: skip
        if given:
            raise UserError(f"--{name} needs --documents")
    from canton.cli.console.ansi_heat import Painter, legend
    from canton.cli.models import TEXT, model_and_input, open_model
    from canton.cli.outputs import check_outputs
    from canton.io.atomic import atomic_write
    from canton.text import Adapter, load_model, map_file
    from canton.text.dynamic_eval import DECAY, LEARNING_RATE
    from canton.text.html_report import ALTERNATIVES, PageWriter
    from canton.text.score import JSONWriter, Sink
    from canton.text.score import score as score_text

    if not adapt and (learning_rate is not None or decay is not None):
        raise UserError("--learning-rate and --decay need --adapt")
    model, file = model_and_input(what, plural="texts", command="score")
    inputs = [file, *([str(model)] if model else [])]
    check_outputs({"html": html, "json": json}, inputs=inputs)
    network = open_model(model, TEXT, load_model).model
    text = map_file(Path(file))
    adapter = None
    if adapt:
        adapter = Adapter(
            network,
            learning_rate=LEARNING_RATE if learning_rate is None else learning_rate,
            decay=DECAY if decay is None else decay,
        )
    painted = sys.stdout.isatty() and str(json) != "-" if colour is None else colour
    writers: list[JSONWriter | PageWriter] = []
    with ExitStack() as open_files:
        if html is not None:
            writers.append(PageWriter(open_files.enter_context(atomic_write(html)), name=file))
        if json is not None:
            opened = sys.stdout.buffer if str(json) == "-" else open_files.enter_context(atomic_write(json))
            writers.append(JSONWriter(opened, name=file))
        painter = Painter(sys.stdout) if painted else None
        if painter is not None:
            typer.echo(legend())
        sinks: list[Sink] = [*writers, *([painter] if painter else [])]
        totals = score_text(
            network, text, adapter=adapter, alternatives=ALTERNATIVES if html else 0, sinks=sinks
        )
        if painter is not None:
            painter.end()
        for writer in writers:
            writer.end(totals)
    to_error = str(json) == "-"
    typer.echo(f"{totals.bits_per_byte:.4f} bits per byte on {totals.bytes:,} bytes", err=to_error)
    if totals.adapted is not None:
        typer.echo(f"{totals.adapted:.4f} bits per byte with dynamic evaluation", err=to_error)
