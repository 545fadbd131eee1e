"""`canton text train`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from canton.errors import UserError

if TYPE_CHECKING:
    from canton.text import Architecture

Model = "The model"
Run = "The run"
Machine = "The machine"


def train(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="What to learn from, any bytes; none: the documentation inside every Python."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The model file to write.")] = Path(
        "model.safetensors"
    ),
    minutes: Annotated[float | None, typer.Option(help="Budget in minutes (2 if neither is given).")] = None,
    steps: Annotated[int | None, typer.Option(help="Budget in steps.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    preset: Annotated[
        str | None, typer.Option(help="article: the model of 2017, its batch and length.")
    ] = None,
    cell: Annotated[str | None, typer.Option(help="gru, lstm, mgu or rnn.")] = None,
    hidden: Annotated[int | None, typer.Option(help="Channels of each layer's state.")] = None,
    layers: Annotated[int | None, typer.Option(help="Layers on top of each other.")] = None,
    dropout: Annotated[float | None, typer.Option(help="Probability of dropping a channel.")] = None,
    counts: Annotated[
        bool, typer.Option("--counts/--no-counts", help="Look up what followed the same bytes before.")
    ] = True,
    recent: Annotated[
        bool, typer.Option("--recent/--no-recent", help="Look up what followed in what was just read.")
    ] = True,
    batch: Annotated[int | None, typer.Option(help="Lanes read side by side.")] = None,
    length: Annotated[int | None, typer.Option(help="Bytes of each lane a step.")] = None,
    rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    clip: Annotated[float | None, typer.Option(help="Largest norm of the gradients.")] = None,
    share: Annotated[float | None, typer.Option(help="Share of the bytes to train on.")] = None,
    seed: Annotated[int | None, typer.Option(help="What all chance is drawn from.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps or auto.")] = "cpu",
    processes: Annotated[int, typer.Option(help="How many, each with its own device.")] = 1,
    precision: Annotated[str, typer.Option(help="32-true, bf16-mixed, 16-mixed, 64-true ...")] = "32-true",
    log: Annotated[Path | None, typer.Option(help="A directory for TensorBoard.")] = None,
    save_every: Annotated[float, typer.Option(help="Seconds between saves.")] = 60.0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show nothing on the way.")] = False,
) -> int:
    """Train a byte model. Ctrl-C saves the run; --resume goes on with it."""
    from canton.cli.console.training_bar import Screen
    from canton.cli.curve import draw_beside
    from canton.text import train as fit_model
    from canton.text.train import ARTICLE_RECIPE

    model: dict[str, Any] = {"cell": cell, "hidden": hidden, "layers": layers, "dropout": dropout}
    if not counts:
        model |= {"counts": (), "words": ()}
    if not recent:
        model |= {"recent": (), "recent_words": ()}
    recipe: dict[str, Any] = {"batch": batch, "length": length, "rate": rate, "clip": clip}
    architecture = _architecture({k: v for k, v in model.items() if v is not None}, preset, resume)
    if preset is not None:
        recipe = {k: ARTICLE_RECIPE[k] if v is None else v for k, v in recipe.items()}
        recipe |= {k: ARTICLE_RECIPE[k] for k in ("weight_decay", "warm_up")}
    with Screen(minutes=minutes, quiet=quiet) as screen:
        trained = fit_model(
            out,
            files or [],
            steps=steps,
            minutes=minutes,
            architecture=architecture,
            share=share,
            seed=seed,
            resume=resume,
            accelerator=device,
            processes=processes,
            precision=precision,
            log=log,
            show=screen.show,
            looks=0 if quiet else 8,
            save_seconds=save_every,
            **recipe,
        )
    if trained is None:  # a helper process of several
        return 0
    drawn = draw_beside(out, trained.curve, unit="bits per byte")
    if not trained.finished:
        typer.echo(
            f"stopped at step {trained.report.step}; the run is in {out}: go on with --resume --out {out}"
        )
        return 130
    typer.echo(
        f"{trained.held_out:.4f} bits per byte on {trained.held_out_bytes:,} held-out bytes, "
        f"after {trained.report.step:,} steps in {trained.report.seconds:.0f} s; the model is {out}"
    )
    typer.echo(drawn)
    return 0


def _architecture(given: dict[str, Any], preset: str | None, resume: bool) -> Architecture | None:
    from canton.text import ARTICLE, Architecture

    if preset not in (None, "article"):
        raise UserError(f"preset is {preset!r}: there is one, article")
    if resume and (given or preset):
        first = next(iter(given), "preset")
        raise UserError(f"--{first} belongs to the beginning of a run: leave it out with --resume")
    if preset is None and not given:
        return None
    return replace(ARTICLE if preset else Architecture(), **given)
