"""The command `canton track figure`."""

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
            help="Model file, or pretrained model (visible, infrared). Default: infrared for thermal scenes, "
            "else visible."
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Image to write (png).")] = Path("figure.png"),
    scene: Annotated[
        int | None,
        typer.Option(
            help="Number of the held-out synthetic scene, from 0 (default: the first that shows a target)."
        ),
    ] = None,
    scene_kind: Annotated[
        str, typer.Option(help="Kind of scene: article, camouflage, thermal or mixed.")
    ] = "article",
    frames: Annotated[int, typer.Option(help="Number of frames.")] = 8,
) -> None:
    """Draw output, truth and input of a synthetic scene, frame by frame."""
    from canton.cli.models import open_model, pretrained_for
    from canton.io.atomic import atomic_write, check_writable
    from canton.track.checkpoint import load_model, training_setting
    from canton.track.render.figure import draw_figure
    from canton.track.train_sources import SceneSource

    if frames < 1:
        raise UserError(f"--frames must be >= 1, got {frames}")
    if scene is not None and scene < 0:
        raise UserError(f"--scene must be >= 0, got {scene}")
    if out.suffix.lower() != ".png":
        raise UserError(f"--out must end in .png, got {out}")
    check_writable(out)
    loaded = open_model(model, pretrained_for(has_colour=scene_kind != "thermal"), load_model)
    cv2 = require("cv2", extra="track")
    scenes = SceneSource(kind=scene_kind, target_class=training_setting(loaded, "target_class"))
    if scene is None:
        scene = next(
            k for k in count() if scenes.held_out_scene(k, frames=frames).class_name == scenes.target_class
        )
    sheet = draw_figure(loaded.model, scenes.held_out_scene(scene, frames=frames), frames=frames)
    encoded, content = cv2.imencode(".png", sheet[..., ::-1])
    if not encoded:
        raise UserError(f"the figure cannot be encoded as PNG, got an array of shape {sheet.shape}")
    with atomic_write(out) as file:
        file.write(content.tobytes())
    message = f"output, truth and input of scene {scene}: {out}"
    if not training_setting(loaded, "scenes"):
        message += "; the model was trained on footage only, so it may detect little in a synthetic scene"
    typer.echo(message)
