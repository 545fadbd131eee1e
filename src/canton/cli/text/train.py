"""`canton text train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from canton.cli.options import Given, config_options
from canton.errors import UserError

if TYPE_CHECKING:
    from canton.text import TrainConfig


def default_config() -> TrainConfig:
    """Return the settings of a run without options."""
    from canton.text import TrainConfig

    return TrainConfig()


@config_options(default_config)
def train(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Files and folders to train on, -: standard input (default: the documentation inside every "
            "Python). .gz, .bz2, .xz and .zst files are decompressed. Each row of .jsonl and .parquet is a "
            "text."
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Model file to write.")] = Path(
        "model.safetensors"
    ),
    resume: Annotated[bool, typer.Option("--resume", help="Continue the unfinished run in --out.")] = False,
    start: Annotated[
        Path | None,
        typer.Option(
            metavar="MODEL", help="Start from a finished model's weights; its architecture is kept."
        ),
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="article: the defaults are the 2017 article's model and settings.")
    ] = None,
    ngrams: Annotated[
        bool,
        typer.Option(help="Use tables of the training text's n-grams (default: on).", show_default=False),
    ] = True,
    history: Annotated[
        bool,
        typer.Option(
            help="Search the text just read for the current n-grams (default: on).", show_default=False
        ),
    ] = True,
    *,
    given: Given,
    log_dir: Annotated[Path | None, typer.Option(help="Directory for TensorBoard logs.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> int:
    """Train a byte model. Ctrl-C saves the run; --resume continues it."""
    from dataclasses import replace

    from canton.cli.console.training_bar import TrainingBar
    from canton.cli.outputs import plot_beside
    from canton.text import ARTICLE, TrainConfig, load_model
    from canton.text import train as train_model
    from canton.text.checkpoint import load_config
    from canton.text.held_out import COLD_BYTES

    if preset not in (None, "article"):
        raise UserError(f"preset must be article, got {preset}")
    if resume and preset:
        raise UserError("--preset cannot be used with --resume: the run keeps its settings")
    if resume:
        config = load_config(out)
    else:
        config = ARTICLE if preset else TrainConfig()
    if start is not None:
        if preset:
            raise UserError("--preset cannot be used with --start: the model keeps its architecture")
        config = replace(config, model=load_model(start).model.architecture)
    config = given.apply(config)
    if not ngrams:
        config = replace(config, model=config.model.without_ngrams())
    if not history:
        config = replace(config, model=config.model.without_history())
    with TrainingBar(quiet=quiet) as bar:
        trained = train_model(
            config,
            out=out,
            files=files or [],
            resume=resume,
            start=start,
            log_dir=log_dir,
            on_progress=None if quiet else bar.show_text,
            on_message=None if quiet else bar.warn,
        )
    if trained is None:  # not the first of several processes
        return 0
    drawn = plot_beside(out, trained.curve, unit="bits per byte")
    if not trained.finished:
        typer.echo(f"stopped at step {trained.report.step}; continue with: train --resume --out {out}")
        return 130
    assert trained.held_out is not None
    warm, cold, count = trained.held_out
    typer.echo(
        f"{warm:.4f} bits per byte on {count:,} held-out bytes, "
        f"after {trained.report.step:,} steps in {trained.report.seconds:.0f} s; wrote {out}"
    )
    typer.echo(f"{cold:.4f} bits per byte cold: on the first {COLD_BYTES:,} bytes of a text")
    if trained.report.rollbacks:
        typer.echo(f"the run diverged and went back {trained.report.rollbacks} times, at half the rate each")
    typer.echo(drawn)
    return 0
