"""`canton track train`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from canton.cli.options import Given, config_options
from canton.errors import UserError

if TYPE_CHECKING:
    from canton.track import TrainConfig


def default_config() -> TrainConfig:
    """Return the settings of a run without options."""
    from canton.track import Architecture, TrainConfig

    return TrainConfig(model=Architecture())


@config_options(default_config)
def train(
    out: Annotated[Path, typer.Option("--out", "-o", help="Model file to write.")] = Path(
        "track.safetensors"
    ),
    resume: Annotated[bool, typer.Option("--resume", help="Continue the unfinished run in --out.")] = False,
    preset: Annotated[
        str | None, typer.Option(help="article: the network of the 2017 article (default: none).")
    ] = None,
    *,
    given: Given,
    log_dir: Annotated[Path | None, typer.Option(help="Directory for TensorBoard logs.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> int:
    """Train a network that detects small objects by their motion. Ctrl-C saves the run; --resume continues
    it.
    """
    from canton.cli.console.training_bar import TrainingBar
    from canton.cli.outputs import plot_beside
    from canton.track import train as train_model

    config = _config(given, out, resume, preset)
    with TrainingBar(quiet=quiet) as bar:
        trained = train_model(
            config,
            out=out,
            resume=resume,
            log_dir=log_dir,
            on_progress=bar.show_track,
            on_decode=bar.show_decoding,
            on_warning=bar.warn,
        )
    if trained is None:  # not the first of several processes
        return 0
    drawn = plot_beside(out, trained.curve, unit="loss")
    if trained.held_out is None:
        typer.echo(f"stopped at step {trained.report.step}; continue with: train --resume --out {out}")
        return 130
    held = trained.held_out
    typer.echo(
        f"F1 {held['f1']:.3f} (precision {held['precision']:.3f}, recall {held['recall']:.3f}) on "
        f"{held['frames']:,} held-out frames at threshold {held['threshold']}, after {trained.report.step:,} "
        f"steps in {trained.report.seconds:.0f} s; wrote {out}"
    )
    typer.echo(drawn)
    return 0


def _config(given: Given, out: Path, resume: bool, preset: str | None) -> TrainConfig:
    """Return the settings of the run: those of the run in `out` or the defaults, with those given."""
    from canton.cli.models import track_model
    from canton.track import ARTICLE, Architecture, TrainConfig, load_model
    from canton.track.checkpoint import load_config

    if preset not in (None, "article"):
        raise UserError(f"preset must be article, got {preset}")
    if resume and preset:
        raise UserError("--preset cannot be used with --resume: the run keeps its settings")
    if resume:
        return given.apply(load_config(out))
    start = track_model(given.values.get(("start",)))
    config = TrainConfig()
    if preset:
        config = TrainConfig(model=ARTICLE)
    elif any(path[0] == "model" for path in given.values):  # changes the network that training starts from
        config = TrainConfig(model=load_model(start).model.architecture if start else Architecture())
    return replace(given.apply(config), start=start)
