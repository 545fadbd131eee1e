"""Scores of many documents for `canton text score --documents`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import typer

from canton.cli.jobs import run_jobs
from canton.cli.line_writer import LineWriter
from canton.cli.shard import choose_shard
from canton.errors import UserError

Key = tuple[str, int]
"""File and number of a document."""


@dataclass(frozen=True)
class DocumentOptions:
    """The options of `canton text score` that need --documents; `kind` is its value."""

    kind: str
    field: str
    workers: int
    shard: str | None
    skip_done: bool
    word_bits: bool
    line_bits: bool


def score_to_file(words: Sequence[str], out: Path | None, options: DocumentOptions) -> None:
    """Write a JSON line for every document to `out`, and print the totals.

    Args:
        words: the files, perhaps with a model before them.
        out: the value of --out.

    Raises:
        UserError: a file or an option is invalid, or some documents could not be scored.
    """
    from canton.cli.models import may_be_model
    from canton.cli.outputs import check_outputs
    from canton.text.documents import KINDS, plan_parts

    if out is None:
        raise UserError("--documents needs --out")
    first = Path(words[0])
    model = first if len(words) > 1 and first.is_file() and may_be_model(first) else None
    files = words[1:] if model else words
    check_outputs({"out": out}, inputs=words)

    if options.kind not in KINDS:
        raise UserError(f"--documents must be one of {', '.join(KINDS)}, got {options.kind}")
    if options.workers < 0:
        raise UserError(f"--workers must be >= 0, got {options.workers}")
    former = out.read_text("utf-8").splitlines() if options.skip_done and out.is_file() else []
    done = frozenset(_keys(former, out))
    parts = choose_shard(options.shard).take(plan_parts([Path(file) for file in files], options.kind))
    setup = partial(_prepare, model, options, done)
    count = size = 0
    bits, failed = 0.0, list[str]()
    with LineWriter(out) as writer, closing(run_jobs(setup, parts, workers=options.workers)) as finished:
        writer.write(former)
        for each in finished:
            if each.error is not None:
                failed.append(each.error)
                typer.echo(f"canton: {', '.join(each.job.files[:3])}: {each.error}", err=True)
            for row in each.result or ():
                writer.write([json.dumps(row)])
                count, size, bits = count + 1, size + row["bytes"], bits + row["bits"]
    mean = f"{bits / size:.4f} bits per byte on " if size else ""
    skipped = f", {len(done):,} were done" if done else ""
    typer.echo(f"{mean}{size:,} bytes in {count:,} documents{skipped}; wrote {out}")
    if failed:
        raise UserError(f"{len(failed)} of {len(parts)} parts were not scored, the first: {failed[0]}")


def _keys(lines: Iterable[str], out: Path) -> list[Key]:
    try:
        rows = [json.loads(line) for line in lines]
        return [(row["file"], row["document"]) for row in rows]
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"--out must be a file of score --documents to skip what is done, got {out}"
        ) from error


def _prepare(
    model: Path | None, options: DocumentOptions, done: frozenset[Key]
) -> Callable[[Any], list[dict[str, Any]]]:
    """Load the model in a worker; return the function that scores a part."""
    from canton.cli.models import TEXT, load_pretrained
    from canton.text import load_model
    from canton.text.documents import Part, read_documents, score_documents

    network = (load_pretrained(TEXT, load_model) if model is None else load_model(model)).model

    def score(part: Part) -> list[dict[str, Any]]:
        documents = [
            document
            for document in read_documents(part, options.kind, options.field)
            if (document.file, document.number) not in done
        ]
        place = {id(document): k for k, document in enumerate(documents)}
        scores = sorted(score_documents(network, documents), key=lambda each: place[id(each.document)])
        return [each.to_row(words=options.word_bits, lines=options.line_bits) for each in scores]

    return score
