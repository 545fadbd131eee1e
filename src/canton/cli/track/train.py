"""`canton track train`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from canton.errors import UserError

if TYPE_CHECKING:
    from canton.track.model import Architecture


def train(
    out: Annotated[Path, typer.Option("--out", "-o", help="The model file to write.")] = Path(
        "track.safetensors"
    ),
    footage: Annotated[Path | None, typer.Option(help="A folder of annotated clips.")] = None,
    scenes: Annotated[
        bool | None,
        typer.Option("--scenes/--no-scenes", help="Learn from made scenes (if there is no footage)."),
    ] = None,
    scene_share: Annotated[float | None, typer.Option(help="Share of made scenes beside footage.")] = None,
    scene_kind: Annotated[
        str | None, typer.Option(help="article, camouflage, thermal or mixed (the default).")
    ] = None,
    backgrounds: Annotated[Path | None, typer.Option(help="A folder of photographs for the scenes.")] = None,
    sought: Annotated[str | None, typer.Option(help="The kind of thing to find (drone).")] = None,
    modality: Annotated[str | None, typer.Option(help="Footage of this kind alone, such as IR.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Budget in minutes (10 if neither is given).")] = None,
    steps: Annotated[int | None, typer.Option(help="Budget in steps.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    start: Annotated[
        Path | None,
        typer.Option(help="A finished model to learn on from, or one that ships: visible, infrared."),
    ] = None,
    preset: Annotated[str | None, typer.Option(help="article: the network of 2017.")] = None,
    no_memory: Annotated[
        bool | None,
        typer.Option(
            "--no-memory/--with-memory",
            help="The network's memories emptied at every frame, or not (the default).",
        ),
    ] = None,
    memory: Annotated[int | None, typer.Option(help="Channels of the convolutional GRU.")] = None,
    early: Annotated[
        int | None, typer.Option(help="Channels of the early one (4; 0: none); added to a --start without.")
    ] = None,
    layers: Annotated[int | None, typer.Option(help="Convolutional GRUs on top of each other.")] = None,
    batch: Annotated[int | None, typer.Option(help="Windows side by side.")] = None,
    length: Annotated[int | None, typer.Option(help="Frames of each a step.")] = None,
    singles: Annotated[
        int | None, typer.Option(help="Steps, at the beginning, that learn from single frames.")
    ] = None,
    pieces: Annotated[int | None, typer.Option(help="Steps a window lasts; its state is carried on.")] = None,
    size: Annotated[int | None, typer.Option(help="Side of a window in px.")] = None,
    rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    seed: Annotated[int | None, typer.Option(help="What all chance is drawn from.")] = None,
    fps: Annotated[float | None, typer.Option(help="Frames a second to learn at.")] = None,
    width: Annotated[int | None, typer.Option(help="Wider footage is scaled to this, in px.")] = None,
    workers: Annotated[int, typer.Option(help="Processes that prepare windows.")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps or auto.")] = "cpu",
    processes: Annotated[int, typer.Option(help="How many, each with its own device.")] = 1,
    precision: Annotated[str, typer.Option(help="32-true, bf16-mixed, 16-mixed ...")] = "32-true",
    log: Annotated[Path | None, typer.Option(help="A directory for TensorBoard.")] = None,
    save_every: Annotated[float, typer.Option(help="Seconds between saves.")] = 60.0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show nothing on the way.")] = False,
) -> int:
    """Train a model that finds a small thing by its motion. Ctrl-C saves the run; --resume goes on with
    it.
    """
    from canton.cli.console.track_bar import TrainScreen
    from canton.cli.curve import draw_beside
    from canton.cli.models import motion_model
    from canton.track import train as fit_model

    changes: dict[str, Any] = {
        "early": early,
        "memory": memory,
        "memory_layers": layers,
        "recurrent": None if no_memory is None else not no_memory,
    }
    given = {name: value for name, value in changes.items() if value is not None}
    start = motion_model(start)
    with TrainScreen(quiet=quiet) as screen:
        trained = fit_model(
            out,
            footage=footage,
            scenes=scenes,
            scene_share=scene_share,
            scene_kind=scene_kind,
            backgrounds=backgrounds,
            sought=sought,
            modality=modality,
            batch=batch,
            length=length,
            pieces=pieces,
            singles=singles,
            size=size,
            rate=rate,
            seed=seed,
            fps=fps,
            width=width,
            architecture=_architecture(given, preset, resume, start),
            start=start,
            steps=steps,
            minutes=minutes,
            resume=resume,
            workers=workers,
            accelerator=device,
            processes=processes,
            precision=precision,
            log=log,
            show=screen.show,
            prepare=screen.prepare,
            warn=screen.warn,
            save_seconds=save_every,
        )
    if trained is None:  # a helper process of several
        return 0
    drawn = draw_beside(out, trained.curve, unit="loss")
    if trained.held_out is None:
        typer.echo(
            f"stopped at step {trained.report.step}; the run is in {out}: go on with --resume --out {out}"
        )
        return 130
    held = trained.held_out
    typer.echo(
        f"F1 {held['f1']:.3f} (precision {held['precision']:.3f}, recall {held['recall']:.3f}) on "
        f"{held['frames']:,} held-out frames at threshold {held['threshold']}, after {trained.report.step:,} "
        f"steps in {trained.report.seconds:.0f} s; the model is {out}"
    )
    typer.echo(drawn)
    return 0


def _architecture(
    changes: dict[str, Any], preset: str | None, resume: bool, start: Path | None
) -> Architecture | None:
    from canton.track.checkpoint import load_model
    from canton.track.model import ARTICLE, Architecture

    if preset not in (None, "article"):
        raise UserError(f"preset is {preset!r}: there is one, article")
    if resume and (changes or preset):
        raise UserError("the model's settings belong to the beginning of a run: leave them out with --resume")
    if preset is None and not changes:
        return None
    if preset:
        return replace(ARTICLE, **changes)
    return replace(load_model(start).model.architecture if start else Architecture(), **changes)
