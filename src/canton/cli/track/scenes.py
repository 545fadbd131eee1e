"""`canton track scenes`."""

from __future__ import annotations

import re
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from canton.errors import UserError

if TYPE_CHECKING:
    from rich.progress import Progress


def scenes(
    out: Annotated[Path, typer.Option(help="Folder to write to. Clips that it already has are kept.")],
    clips: Annotated[int, typer.Option(help="Number of clips.")] = 100,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    frames: Annotated[int, typer.Option(help="Frames per clip, at 10 frames/s.")] = 16,
    size: Annotated[str, typer.Option(help="Side in pixels, or WIDTHxHEIGHT.")] = "128",
    kind: Annotated[
        str, typer.Option(help="Kind of scene: article, camouflage, thermal or mixed.")
    ] = "mixed",
    target_class: Annotated[
        str, typer.Option(help="Class to detect: drone, bird, airplane or helicopter.")
    ] = "drone",
    backgrounds: Annotated[
        Path | None, typer.Option(help="Folder of photographs for the article scenes (default: none).")
    ] = None,
    workers: Annotated[
        int, typer.Option(help="Processes that generate scenes. 0: the main process does.")
    ] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> int:
    """Generate labelled synthetic clips, half of them without the target. Ctrl-C keeps the finished clips."""
    from canton.track.synthetic import make_scene
    from canton.track.synthetic.backgrounds import photographs
    from canton.track.synthetic.dataset import Scenes
    from canton.track.synthetic.write import write_scenes

    if not 1 <= frames <= 10_000:
        raise UserError(f"frames must be 1 to 10000, got {frames}")
    if not 0 <= workers <= 256:
        raise UserError(f"workers must be 0 to 256, got {workers}")
    shape = _size(size)
    try:
        dataset = Scenes(
            seed,
            clips,
            frames=frames,
            size=shape,
            kind=kind,
            target_class=target_class,
            backgrounds=backgrounds,
        )
        make_scene(
            0, frames=1, size=shape, kind=kind, target_class=target_class, backgrounds=backgrounds
        )  # raises an error before anything is written
    except UserError:
        raise
    except ValueError as error:
        raise UserError(str(error)) from error
    if backgrounds is not None:
        photographs(backgrounds)
    start = time.monotonic()
    with closing(write_scenes(dataset, out, workers=workers)) as counts, _progress(quiet) as bar:
        done = before = next(counts)
        task = bar.add_task("", total=clips, completed=done, speed="")
        for done in counts:
            speed = (done - before) * frames / max(time.monotonic() - start, 1e-9)
            bar.update(task, completed=done, speed=f"{speed:.0f} frames/s")
    seconds = time.monotonic() - start
    earlier = f" ({before} from before)" if before else ""
    rate = f", {(done - before) * frames / seconds:.0f} frames/s" if done > before else ""
    typer.echo(f"{out}: {done} clips{earlier} of {frames} frames{rate}")
    return 0


def _progress(quiet: bool) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, quiet=quiet, highlight=False)
    return Progress(
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("[cyan]{task.fields[speed]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=quiet or not console.is_terminal,
    )


def _size(text: str) -> int | tuple[int, int]:
    """Return the side in px, or (height, width) of WIDTHxHEIGHT."""
    found = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text)
    if found is None:
        raise UserError(f"size must be pixels or WIDTHxHEIGHT, such as 128 or 320x256, got {text!r}")
    width, height = found.groups()
    return int(width) if height is None else (int(height), int(width))
