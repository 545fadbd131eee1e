"""Deinterlacing with FFmpeg's bwdif filter."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from canton.errors import require

if TYPE_CHECKING:
    from av import VideoFrame


class Deinterlacer:
    """A filter that gives one whole frame per interlaced frame.

    It starts at the first frame that is flagged as interlaced, so that other videos pass untouched. bwdif
    needs the following frame, so that each frame comes out one frame later.

    Args:
        enabled: True: deinterlace every frame. False: none. None: those that are flagged.
    """

    def __init__(self, enabled: bool | None) -> None:
        self._enabled = enabled
        self._graph: Any = None
        self._form: tuple[int, int, str] | None = None

    def push(self, frame: VideoFrame) -> list[VideoFrame]:
        """Give a frame and return those that are ready."""
        if self._enabled is False:
            return [frame]
        form = (frame.width, frame.height, frame.format.name)
        ready = self.flush() if self._graph is not None and form != self._form else []
        if self._graph is None:
            if not (self._enabled or frame.interlaced_frame):
                return [*ready, frame]
            self._start(frame, form)
        self._graph.push(frame)
        return ready + self._pull()

    def flush(self) -> list[VideoFrame]:
        """Return the last frames."""
        if self._graph is None:
            return []
        self._graph.push(None)
        ready = self._pull()
        self._graph = None
        return ready

    def _start(self, frame: VideoFrame, form: tuple[int, int, str]) -> None:
        av = require("av", extra="track")
        self._graph, self._form = av.filter.Graph(), form
        source = self._graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format.name, time_base=frame.time_base
        )
        which = "all" if self._enabled else "interlaced"
        bwdif = self._graph.add("bwdif", f"mode=send_frame:deint={which}")
        sink = self._graph.add("buffersink")
        source.link_to(bwdif)
        bwdif.link_to(sink)
        self._graph.configure()

    def _pull(self) -> list[VideoFrame]:
        av = require("av", extra="track")
        ready: list[VideoFrame] = []
        with suppress(av.error.BlockingIOError, av.error.EOFError):
            while True:
                ready.append(self._graph.pull())
        return ready
