"""`canton track watch`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from canton.cli.models import VISIBLE, light, load_shipped, model_and, open_model
from canton.errors import UserError

if TYPE_CHECKING:
    from canton.track.pipeline import FrameResult
    from canton.track.render.overlay import OverlayRenderer
    from canton.track.video.writer import VideoWriter

USUAL_FPS = 30.0
"""Frames a second of a video that does not say."""


def watch(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="[MODEL] VIDEO",
            help="A video file, a folder of images, a camera's number or an rtsp:// or http(s):// address; "
            "before it, if you like, a model file, or visible or infrared, which ship.",
        ),
    ],
    model: Annotated[
        Path | None,
        typer.Option(
            help="A model file, or one of those that ship: visible, infrared; left out: as the film is."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write an annotated video (mp4).")] = None,
    json: Annotated[
        Path | None, typer.Option(help="Write a line of JSON a frame; - for standard output.")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(help="Write the tracks as MOT-challenge rows; - for standard output.")
    ] = None,
    live: Annotated[bool, typer.Option("--live", help="Show what it believes while it watches.")] = False,
    threshold: Annotated[
        float | None, typer.Option(help="Heat that is believed, 0.01 to 1; none: as the model asks.")
    ] = None,
    fps: Annotated[float | None, typer.Option(help="Frames a second to look at; none: all.")] = None,
    width: Annotated[
        int | None,
        typer.Option(
            help="What is wider is scaled to so many px for the network; none: as it learned; 0: never."
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show nothing on the way.")] = False,
) -> int:
    """Find and follow the small thing that moves. Ctrl-C ends it and keeps what was written."""
    from canton.cli.console.live_view import Screen
    from canton.cli.outputs import check_outputs
    from canton.track.checkpoint import load_model
    from canton.track.pipeline import track_video
    from canton.track.video.preprocess import downscale_factor
    from canton.track.video.reader import open_video
    from canton.training.signals import stop_signals

    model, source = model_and(what, model, plural="videos", command="watch")
    if threshold is not None and not 0.01 <= threshold <= 1:
        raise UserError(f"threshold is {threshold}: it lies between 0.01 and 1")
    if fps is not None and not 0 < fps < float("inf"):
        raise UserError(f"fps is {fps}: it is a positive number")
    if width is not None and width < 0:
        raise UserError(f"width is {width}: it is a number of px, or 0")
    inputs = [source, *([str(model)] if model else [])]
    check_outputs({"out": out, "json": json, "csv": csv}, inputs=inputs)
    made = open_model(model, VISIBLE, load_model) if model else None
    with open_video(source, fps=fps) as video, ExitStack() as after:
        fitting = light(coloured=video.has_colour)
        made = made or load_shipped(fitting, load_model)
        network, believed = made.model, threshold or float(made.header.get("threshold", 0.5))
        most = int(made.header.get("training", {}).get("width", 0)) if width is None else width
        rate = min(fps or USUAL_FPS, video.fps or USUAL_FPS) if fps else video.fps or USUAL_FPS
        writers = [_text(after, json, "json"), _text(after, csv, "csv")]
        scale = downscale_factor(video.width, most)
        picture = after.enter_context(_Picture(out, network.stride * scale, network.offset * scale, rate))
        screen = after.enter_context(Screen(source, _total(video.frames, video.fps, rate), live, quiet))
        stop = after.enter_context(stop_signals())
        results = track_video(
            network, video, fps=rate, threshold=believed, width=most or None, live=video.live
        )
        for result in after.enter_context(closing(results)):
            picture.write(result)  # first: it may refuse, and an earlier file of lines is then still there
            for write in writers:
                write(result)
            screen.show(result)
            if stop.is_set():
                break
    written = [str(path) for path in (out, json, csv) if path is not None and str(path) != "-"]
    told = f"{screen.summary(written)}; threshold {believed:g}"
    told += "" if model else f", the {fitting} model that ships"
    typer.echo(told, err="-" in (str(json), str(csv)))
    if stop.is_set():
        return 130
    if video.problem:
        raise UserError(f"{video.problem}; what was seen before it is kept")
    return 0


def _text(after: ExitStack, path: Path | None, kind: str) -> Callable[[FrameResult], None]:
    """What writes a result as text, to a file or to standard output."""
    from canton.cli.line_writer import Lines
    from canton.track.serialize import json_line, mot_rows

    if path is None:
        return lambda result: None
    file = None if str(path) == "-" else after.enter_context(Lines(path))

    def write(result: FrameResult) -> None:
        lines = [json_line(result)] if kind == "json" else mot_rows(result)
        if file is not None:
            file.write(lines)
            return
        sys.stdout.buffer.write("".join(f"{line}\n" for line in lines).encode())
        sys.stdout.buffer.flush()

    return write


class _Picture:
    """The annotated video, begun with the first frame; none where no path is given."""

    def __init__(self, path: Path | None, stride: float, offset: float, fps: float) -> None:
        self._path, self._stride, self._offset, self._fps = path, stride, offset, fps
        self._renderer: OverlayRenderer | None = None
        self._writer: VideoWriter | None = None
        self._open = ExitStack()

    def __enter__(self) -> _Picture:
        return self

    def __exit__(self, *error: object) -> bool | None:
        return self._open.__exit__(*error)  # type: ignore[arg-type]

    def write(self, result: FrameResult) -> None:
        if self._path is None:
            return
        if self._renderer is None or self._writer is None:
            from canton.track.render.overlay import OverlayRenderer
            from canton.track.video.writer import MAX_FPS, VideoWriter

            height, width, _ = result.frame.pixels.shape
            self._renderer = OverlayRenderer(
                width, height, stride=self._stride, offset=self._offset, fps=self._fps
            )
            self._writer = self._open.enter_context(
                VideoWriter(self._path, self._renderer.width, self._renderer.height, min(self._fps, MAX_FPS))
            )
        self._writer.write(self._renderer.draw(result), result.frame.seconds)


def _total(frames: int | None, fps: float | None, rate: float) -> int | None:
    """How many frames will be seen, where the video says how many it has."""
    return None if frames is None else max(1, round(frames * min(1.0, rate / (fps or rate))))
