"""Watching of one film: the model, the outputs and the messages."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from canton.cli.models import VISIBLE, load_pretrained, open_model, pretrained_for
from canton.errors import UserError

if TYPE_CHECKING:
    from canton.track.pipeline import FrameResult
    from canton.track.video.reader import Video


@dataclass(frozen=True)
class WatchOptions:
    """How films are watched.

    Raises:
        UserError: an option is out of range.
    """

    model: Path | None = None
    threshold: float | None = None
    fps: float | None = None
    width: int | None = None
    device: str = "cpu"
    deinterlace: bool | None = None
    reconnect: int = 0

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0.01 <= self.threshold <= 1:
            raise UserError(f"--threshold must be in [0.01, 1], got {self.threshold}")
        if self.fps is not None and not 0 < self.fps < float("inf"):
            raise UserError(f"--fps must be positive and finite, got {self.fps}")
        if self.width is not None and self.width < 0:
            raise UserError(f"--width must be >= 0, got {self.width}")
        if self.reconnect < 0:
            raise UserError(f"--reconnect must be >= 0, got {self.reconnect}")


@dataclass(frozen=True)
class Outputs:
    """The files that are written for a film. None: not written; -: standard output."""

    out: Path | None = None
    json: Path | None = None
    csv: Path | None = None

    @property
    def files(self) -> list[Path]:
        """The files, without standard output."""
        return [path for path in (self.out, self.json, self.csv) if path is not None and str(path) != "-"]


class Watched(NamedTuple):
    """A film that was watched.

    Args:
        summary: one line.
        problem: one line on why reading stopped early. None: it did not.
        stopped: whether Ctrl-C or SIGTERM stopped it.
    """

    summary: str
    problem: str | None
    stopped: bool


class FilmWatcher:
    """Watches films one after the other, and loads each model once.

    Raises:
        UserError: the model or the device cannot be used.
    """

    def __init__(self, options: WatchOptions) -> None:
        self.options = options
        self._device = _device(options.device)
        self._models: dict[str, Any] = {}
        if options.model is not None:
            self._load("")

    def watch(self, source: str, outputs: Outputs, *, live: bool = False, quiet: bool = False) -> Watched:
        """Watch a film and write its outputs.

        Raises:
            UserError: the film cannot be opened, or an output cannot be written.
        """
        from canton.cli.console.live_view import LiveView
        from canton.track.pipeline import track_video
        from canton.track.video.pictures import is_pictures
        from canton.track.video.reader import open_video
        from canton.track.video.source import DEFAULT_FPS
        from canton.training.signals import stop_signals

        options, pictures = self.options, is_pictures(source)
        opened = open_video(
            source,
            fps=None if pictures else options.fps,
            image_fps=(options.fps if pictures else None) or DEFAULT_FPS,
            deinterlace=options.deinterlace,
            reconnect=options.reconnect,
            sound=outputs.out is not None,
            report=warn,
        )
        with opened as video, ExitStack() as stack:
            pretrained = pretrained_for(has_colour=video.has_colour)
            loaded = self._load(pretrained)
            network, header = loaded.model, loaded.header
            threshold = options.threshold or float(header.get("threshold", 0.5))
            width, fps = options.width, options.fps
            max_width = int(header.get("training", {}).get("width", 0)) if width is None else width
            rate = min(fps, video.fps or DEFAULT_FPS) if fps else video.fps or DEFAULT_FPS
            writers = [_text_writer(stack, outputs.json, "json"), _text_writer(stack, outputs.csv, "csv")]
            overlay = _overlay(stack, outputs.out, video, network, max_width, rate)
            screen = stack.enter_context(LiveView(source, _total(video.frames, video.fps, rate), live, quiet))
            stop = stack.enter_context(stop_signals())
            results = track_video(
                network, video, fps=rate, threshold=threshold, width=max_width or None, live=video.live
            )
            for result in stack.enter_context(closing(results)):
                overlay(result)  # first: if it fails, existing text files are kept
                for write in writers:
                    write(result)
                screen.show(result)
                if stop.is_set():
                    break
        summary = f"{screen.summary([str(path) for path in outputs.files])}; threshold {threshold:g}"
        summary += "" if options.model else f", pretrained model {pretrained}"
        if video.damaged:
            warn(f"{source}: skipped {video.damaged} damaged frame{'' if video.damaged == 1 else 's'}")
        return Watched(summary, video.problem, stop.is_set())

    def _load(self, pretrained: str) -> Any:
        from canton.track.checkpoint import load_model

        name = "" if self.options.model else pretrained
        if name not in self._models:
            if self.options.model:
                loaded = open_model(self.options.model, VISIBLE, load_model)
            else:
                loaded = load_pretrained(name, load_model)
            if self.options.device != "cpu":
                loaded.model.to(self._device)
            self._models[name] = loaded
        return self._models[name]


def warn(line: str) -> None:
    """Print a warning to standard error."""
    typer.echo(f"canton: warning: {' '.join(line.split())}", err=True)


def _device(name: str) -> Any:
    import torch

    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--device must be usable, such as cpu or cuda, got {name}: {reason}") from error
    return device


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


def _overlay(
    stack: ExitStack, path: Path | None, video: Video, network: Any, max_width: int, fps: float
) -> Callable[[FrameResult], None]:
    """Return a function that adds a result to the annotated video."""
    if path is None:
        return lambda result: None
    from canton.track.render.annotated_video import AnnotatedVideo

    annotated = AnnotatedVideo(
        path,
        stride=network.stride,
        offset=network.offset,
        max_width=max_width,
        fps=fps,
        aspect=video.aspect,
        sound=video.sound,
    )
    return stack.enter_context(annotated).write


def _total(frames: int | None, fps: float | None, rate: float) -> int | None:
    """Return the number of frames to process, or None if the video's header states none."""
    return None if frames is None else max(1, round(frames * min(1.0, rate / (fps or rate))))
