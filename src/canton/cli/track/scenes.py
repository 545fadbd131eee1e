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
    out: Annotated[
        Path, typer.Option(help="The folder to write to; what is there already is not made again.")
    ],
    clips: Annotated[int, typer.Option(help="How many.")] = 100,
    seed: Annotated[int, typer.Option(help="Another seed gives other scenes.")] = 0,
    frames: Annotated[int, typer.Option(help="Frames of a clip, at 10 a second.")] = 16,
    size: Annotated[str, typer.Option(help="px of a side, or WIDTHxHEIGHT.")] = "128",
    kind: Annotated[str, typer.Option(help="article, camouflage, thermal or mixed.")] = "mixed",
    target: Annotated[
        str, typer.Option(help="What is target_class: drone, bird, airplane or helicopter.")
    ] = "drone",
    backgrounds: Annotated[
        Path | None, typer.Option(help="A folder of photographs for the scenes by day.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes that make scenes; 0: this one.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show nothing on the way.")] = False,
) -> int:
    """Make clips with exact labels, half of them without the target. Ctrl-C keeps what is done."""
    from canton.track.synthetic import make_scene
    from canton.track.synthetic.backgrounds import photographs
    from canton.track.synthetic.dataset import Scenes
    from canton.track.synthetic.write import write_scenes

    if not 1 <= frames <= 10_000:
        raise UserError(f"frames is {frames}: a clip has 1 to 10000")
    if not 0 <= workers <= 256:
        raise UserError(f"workers is {workers}: it lies between 0 and 256")
    shape = _size(size)
    try:
        made = Scenes(
            seed, clips, frames=frames, size=shape, kind=kind, target=target, backgrounds=backgrounds
        )
        make_scene(0, frames=1, size=shape, kind=kind, target=target, backgrounds=backgrounds)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(str(error)) from error
    if backgrounds is not None:
        photographs(backgrounds)
    start = time.monotonic()
    with closing(write_scenes(made, out, workers=workers)) as counts, _screen(quiet) as bar:
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


def _screen(quiet: bool) -> Progress:
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
    """ "128" or "320x256", which is width and height, to px of height and width."""
    found = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text)
    if found is None:
        raise UserError(f"size is {text!r}: it is px of a side, or WIDTHxHEIGHT, such as 320x256")
    width, height = found.groups()
    return int(width) if height is None else (int(height), int(width))
