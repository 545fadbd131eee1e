"""The command `canton track watch`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from canton.cli.models import VISIBLE, load_pretrained, model_and_input, open_model, pretrained_for
from canton.errors import UserError

if TYPE_CHECKING:
    from canton.track.pipeline import FrameResult
    from canton.track.render.overlay import OverlayRenderer
    from canton.track.video.writer import VideoWriter

DEFAULT_FPS = 30.0
"""Frame rate of a video whose header states none."""


def watch(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="[MODEL] VIDEO",
            help="Video file, folder of images, camera number, or rtsp:// or http(s):// URL. A model file or "
            "a pretrained model (visible, infrared) may come before it.",
        ),
    ],
    model: Annotated[
        Path | None,
        typer.Option(
            help="Model file, or pretrained model (visible, infrared). Default: infrared if the first frame "
            "is gray, else visible."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write an annotated video (mp4).")] = None,
    json: Annotated[
        Path | None, typer.Option(help="Write one line of JSON per frame; -: standard output.")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(help="Write the tracks as MOT challenge rows; -: standard output.")
    ] = None,
    live: Annotated[bool, typer.Option("--live", help="Show scores and tracks in the terminal.")] = False,
    threshold: Annotated[
        float | None, typer.Option(help="Detection threshold, 0.01-1 (default: the model's own).")
    ] = None,
    fps: Annotated[float | None, typer.Option(help="Frames per second to process (default: all).")] = None,
    width: Annotated[
        int | None,
        typer.Option(
            help="Resize wider frames to this width in px before inference (default: training width; "
            "0: never)."
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> int:
    """Detect and track small moving objects in a video. Ctrl-C stops it and keeps the output."""
    from canton.cli.console.live_view import LiveView
    from canton.cli.outputs import check_outputs
    from canton.track.checkpoint import load_model
    from canton.track.pipeline import track_video
    from canton.track.video.preprocess import downscale_factor
    from canton.track.video.reader import open_video
    from canton.training.signals import stop_signals

    model, source = model_and_input(what, model, plural="videos", command="watch")
    if threshold is not None and not 0.01 <= threshold <= 1:
        raise UserError(f"--threshold must be in [0.01, 1], got {threshold}")
    if fps is not None and not 0 < fps < float("inf"):
        raise UserError(f"--fps must be positive and finite, got {fps}")
    if width is not None and width < 0:
        raise UserError(f"--width must be >= 0, got {width}")
    inputs = [source, *([str(model)] if model else [])]
    check_outputs({"out": out, "json": json, "csv": csv}, inputs=inputs)
    loaded = open_model(model, VISIBLE, load_model) if model else None
    with open_video(source, fps=fps) as video, ExitStack() as stack:
        pretrained = pretrained_for(has_colour=video.has_colour)
        loaded = loaded or load_pretrained(pretrained, load_model)
        network, header = loaded.model, loaded.header
        threshold = threshold or float(header.get("threshold", 0.5))
        max_width = int(header.get("training", {}).get("width", 0)) if width is None else width
        rate = min(fps, video.fps or DEFAULT_FPS) if fps else video.fps or DEFAULT_FPS
        text_writers = [_text_writer(stack, json, "json"), _text_writer(stack, csv, "csv")]
        scale = downscale_factor(video.width, max_width)
        overlay = stack.enter_context(_OverlayFile(out, network.stride * scale, network.offset * scale, rate))
        screen = stack.enter_context(LiveView(source, _total(video.frames, video.fps, rate), live, quiet))
        stop = stack.enter_context(stop_signals())
        results = track_video(
            network, video, fps=rate, threshold=threshold, width=max_width or None, live=video.live
        )
        for result in stack.enter_context(closing(results)):
            overlay.write(result)  # first: if it fails, existing text files are kept
            for write in text_writers:
                write(result)
            screen.show(result)
            if stop.is_set():
                break
    written = [str(path) for path in (out, json, csv) if path is not None and str(path) != "-"]
    summary = f"{screen.summary(written)}; threshold {threshold:g}"
    summary += "" if model else f", pretrained model {pretrained}"
    typer.echo(summary, err="-" in (str(json), str(csv)))
    if stop.is_set():
        return 130
    if video.problem:
        raise UserError(f"{video.problem}; the frames before it were processed")
    return 0


def _text_writer(stack: ExitStack, path: Path | None, kind: str) -> Callable[[FrameResult], None]:
    """Return a function that writes a result as JSON or CSV to a file or to standard output."""
    from canton.cli.line_writer import LineWriter
    from canton.track.serialize import json_line, mot_rows

    if path is None:
        return lambda result: None
    file = None if str(path) == "-" else stack.enter_context(LineWriter(path))

    def write(result: FrameResult) -> None:
        lines = [json_line(result)] if kind == "json" else mot_rows(result)
        if file is not None:
            file.write(lines)
            return
        sys.stdout.buffer.write("".join(f"{line}\n" for line in lines).encode())
        sys.stdout.buffer.flush()

    return write


class _OverlayFile:
    """The annotated video, opened at the first frame. Without a path nothing is written."""

    def __init__(self, path: Path | None, stride: float, offset: float, fps: float) -> None:
        self._path, self._stride, self._offset, self._fps = path, stride, offset, fps
        self._renderer: OverlayRenderer | None = None
        self._writer: VideoWriter | None = None
        self._stack = ExitStack()

    def __enter__(self) -> _OverlayFile:
        return self

    def __exit__(self, *error: object) -> bool | None:
        return self._stack.__exit__(*error)  # type: ignore[arg-type]

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
            self._writer = self._stack.enter_context(
                VideoWriter(self._path, self._renderer.width, self._renderer.height, min(self._fps, MAX_FPS))
            )
        self._writer.write(self._renderer.draw(result), result.frame.seconds)


def _total(frames: int | None, fps: float | None, rate: float) -> int | None:
    """Return the number of frames to process, or None if the video's header states none."""
    return None if frames is None else max(1, round(frames * min(1.0, rate / (fps or rate))))
