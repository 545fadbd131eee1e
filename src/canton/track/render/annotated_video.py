"""Annotated videos, drawn and encoded in a thread."""

from __future__ import annotations

import queue
import threading
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType

from canton.track.pipeline import FrameResult
from canton.track.render.overlay import OverlayRenderer, fit
from canton.track.video.preprocess import downscale_factor
from canton.track.video.source import Sound
from canton.track.video.writer import MAX_FPS, VideoWriter

WAITING = 4
"""Results that may wait to be drawn."""


class AnnotatedVideo:
    """A video of results; use it as a context manager. A thread draws and encodes.

    The first frame decides the size; frames of another size are resized and centred.

    Args:
        path: must end in .mp4; see `VideoWriter`. It is opened at the first frame.
        stride, offset: of the model, in px of its input; see `OverlayRenderer`.
        max_width: width in px that wider frames are resized to for the model. 0: none is.
        fps: frame rate.
        aspect: width of a displayed px by its height.
        sound: sound to copy. None: none.
    """

    def __init__(
        self,
        path: Path,
        *,
        stride: float,
        offset: float,
        max_width: int,
        fps: float,
        aspect: Fraction = Fraction(1),
        sound: Sound | None = None,
    ) -> None:
        self._path, self._fps, self._aspect, self._sound = path, fps, aspect, sound
        self._stride, self._offset, self._max_width = stride, offset, max_width
        self._renderer: OverlayRenderer | None = None
        self._size = 0, 0
        self._writer: VideoWriter | None = None
        self._waiting: queue.Queue[FrameResult | None] = queue.Queue(WAITING)
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def __enter__(self) -> AnnotatedVideo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except Exception:
            if kind is None:  # the first error is the one to report
                raise

    def write(self, result: FrameResult) -> None:
        """Add a result.

        Raises:
            UserError: the file cannot be written. The frame may be one of the last few.
        """
        if self._writer is None or self._thread is None:
            height, width, _ = result.frame.pixels.shape
            renderer = self._renderer_for(width, height)
            self._writer = VideoWriter(
                self._path,
                renderer.width,
                renderer.height,
                min(self._fps, MAX_FPS),
                aspect=self._aspect,
                sound=self._sound,
            )
            self._thread = threading.Thread(
                target=self._draw_all, args=(self._writer,), name="canton-encode", daemon=True
            )
            self._thread.start()
        if self._error is None:
            self._waiting.put(result)
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Write what waits, and close the file. Further calls do nothing.

        Raises:
            UserError: the file cannot be written.
        """
        thread, self._thread = self._thread, None
        if thread is None or self._writer is None:
            return
        self._waiting.put(None)
        thread.join()
        if self._error is not None:
            with suppress(Exception):
                self._writer.close()
            raise self._error
        self._writer.close()

    def _renderer_for(self, width: int, height: int) -> OverlayRenderer:
        if self._renderer is None or self._size != (width, height):
            scale = downscale_factor(width, self._max_width)
            self._size = width, height
            self._renderer = OverlayRenderer(
                width, height, stride=self._stride * scale, offset=self._offset * scale, fps=self._fps
            )
        return self._renderer

    def _draw_all(self, writer: VideoWriter) -> None:
        while (result := self._waiting.get()) is not None:
            if self._error is not None:
                continue  # empty the queue, so that no one waits for it
            try:
                height, width, _ = result.frame.pixels.shape
                image = self._renderer_for(width, height).draw(result)
                writer.write(fit(image, writer.width, writer.height), result.frame.seconds)
            except BaseException as error:  # raised again by `write` or `close`
                self._error = error
