"""Check that a file's frames reach the end that its header states."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

from canton.track.video.source import ReadError

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

DURATION_FROM_ZERO = ("matroska", "asf", "nut")
"""Containers whose duration counts from time 0 instead of from their first frame."""


class EndCheck:
    """A check that a file's frames reach the end that its header states. All times are in seconds.

    An intact file can have fewer frames than its header states: an edit list hides some, and an AVI drops
    some.
    """

    def __init__(self, av: ModuleType, container: InputContainer, stream: VideoStream, fps: float) -> None:
        self._stream, self._tick, self._frame = stream, float(stream.time_base or 0), 1 / fps
        self._frames, self._reached, self._hidden = 0, 0.0, 0.0
        form = container.format.name
        self._avi = form == "avi"  # its packets have times, but its duration is an estimate
        self._end: float | None = None
        if stream.frames and self._avi:
            self._end = stream.frames * self._tick
        elif stream.frames and stream.duration:
            self._end = ((stream.start_time or 0) + stream.duration) * self._tick
        elif not stream.frames and len(container.streams) == 1 and container.duration:
            start = 0 if form.startswith(DURATION_FROM_ZERO) else container.start_time or 0
            self._end = (start + container.duration) / av.time_base

    def add_packet(self, packet: Packet[VideoStream]) -> None:
        """Record a packet of the file."""
        start = self._stream.start_time or 0
        if packet.is_discard and packet.pts is not None and packet.pts < start:
            before = (start - packet.pts) * self._tick
            self._hidden = min(self._hidden or before, before)
        if self._avi and packet.dts is not None:
            self._hidden = max(self._hidden, packet.dts * self._tick - self._reached)
            self._reach(packet.dts, packet.duration)

    def add_frame(self, frame: VideoFrame) -> None:
        """Record a decoded frame."""
        self._frames += 1
        if not self._avi:
            self._reach(frame.pts, frame.duration)

    def check(self, undecoded: int) -> None:
        """Check the end, after the last frame.

        Args:
            undecoded: number of damaged packets that gave no frame.

        Raises:
            ReadError: frames are missing.
        """
        stated = self._stream.frames
        if not self._frames or 0 < stated <= self._frames + undecoded:
            return
        if not self._end or not self._reached:
            if stated:
                raise ReadError(f"the header states {stated} frames")
            return
        # FFmpeg hides a part of the last frame before the start; an AVI can drop frames at its end.
        tolerance = self._hidden + self._frame / 2 if stated else max(1.0, 2 * self._frame)
        missing = self._end - self._reached
        if missing > tolerance:
            raise ReadError(f"the last {round(missing, 3):g} s are missing")

    def _reach(self, start: int | None, duration: int | None) -> None:
        if start is not None:
            length = duration * self._tick if duration else self._frame
            self._reached = max(self._reached, start * self._tick + length)
