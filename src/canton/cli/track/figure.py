"""`canton track figure`."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Annotated

import typer

from canton.errors import UserError, require


def figure(
    model: Annotated[
        Path | None,
        typer.Argument(
            help="A model file, or one of those that ship: visible, infrared; left out: infrared for "
            "thermal scenes, else visible."
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The picture to write (png).")] = Path(
        "figure.png"
    ),
    scene: Annotated[
        int | None,
        typer.Option(
            help="Which of the made scenes, from 0; left out: the first with something to find. None of them "
            "was learned from."
        ),
    ] = None,
    scene_kind: Annotated[str, typer.Option(help="article, camouflage, thermal or mixed.")] = "article",
    frames: Annotated[int, typer.Option(help="How many frames, from t0.")] = 8,
) -> None:
    """Draw the article's figure: output, truth and input of t0, t1 ... side by side."""
    from canton.cli.models import light, open_model
    from canton.io.atomic import atomic_write, check_writable
    from canton.track.checkpoint import load_model
    from canton.track.render.figure import draw_figure
    from canton.track.train_sources import SceneSource

    if frames < 1 or (scene is not None and scene < 0):
        raise UserError(f"frames is {frames} and scene {scene}: at least 1 frame, of scene 0 or above")
    if out.suffix.lower() != ".png":
        raise UserError(f"--out is {out}: the figure is a .png")
    check_writable(out)
    held = open_model(model, light(coloured=scene_kind != "thermal"), load_model)
    cv2 = require("cv2", extra="track")
    scenes = SceneSource(kind=scene_kind, target_class=str(held.header["training"]["target_class"]))
    if scene is None:
        scene = next(
            k for k in count() if scenes.held_out_scene(k, frames=frames).kind == scenes.target_class
        )
    sheet = draw_figure(held.model, scenes.held_out_scene(scene, frames=frames), frames=frames)
    good, content = cv2.imencode(".png", sheet[..., ::-1])
    assert good
    with atomic_write(out) as file:
        file.write(content.tobytes())
    told = f"output, truth and input of scene {scene}: {out}"
    if not held.header["training"].get("scenes"):
        told += "; the model learned from films and never saw a made scene, so it may find little here"
    typer.echo(told)
