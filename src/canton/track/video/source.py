"""What every source of frames provides, and what it is asked for."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from av import Packet

DEFAULT_FPS = 30.0
"""Frame rate of a source that states none."""
MAX_NOTICES = 5
"""Skipped pictures that are reported one by one."""


class ReadError(Exception):
    """Reading stopped before the end of the source; the message is one line."""


@dataclass(frozen=True)
class ReadOptions:
    """How a source is read; see `canton.track.video.reader.open_video`."""

    timeout: float = 10.0
    reconnect: int = 0
    deinterlace: bool | None = None
    sound: bool = False
    image_fps: float = DEFAULT_FPS
    report: Callable[[str], None] = field(default=lambda line: None)


class DecodedFrame(NamedTuple):
    """A decoded frame whose pixels are not converted yet.

    Args:
        seconds: time by the source's clock. None: the source has none.
        size: width and height in px.
        pixels: function of `gray` that returns (H, W, 3) RGB, or (H, W, 1) if `gray`. Valid until the next
            frame is decoded.
        index: number of the frame in the source. None: one more than the last.
        name: file name of a picture. None: the frame is no picture.
        gap: seconds without a connection before this frame, which then starts anew. None: there was none.
    """

    seconds: float | None
    size: tuple[int, int]
    pixels: Callable[[bool], NDArray[np.uint8]]
    index: int | None = None  # type: ignore[assignment]  # hides tuple.index
    name: str | None = None
    gap: float | None = None


class Sound:
    """The audio packets of a video that were read and not taken yet.

    Attributes:
        stream: PyAV's audio stream.
        start: time of the first video frame by the source's clock.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.start: float | None = None
        self._packets: deque[Packet[Any]] = deque()

    def add(self, packet: Packet[Any]) -> None:
        """Keep a packet until it is taken."""
        self._packets.append(packet)

    def take(self) -> Iterator[Packet[Any]]:
        """Yield the packets in order, once."""
        while self._packets:
            yield self._packets.popleft()


@dataclass
class Source:
    """An open source of frames.

    Args:
        decoded: iterator over the frames.
        fps: frames per second by the source's header, or None.
        frames: number of frames by the source's header, or None.
        close: closes the source.
        live: whether the source is a live stream.
        aspect: width of a displayed px by its height.
        sound: the sound, if it was asked for and there is some.
        damaged: number of frames or pictures that could not be read and were skipped, so far.
        interrupted: set to end waiting for a lost connection.
    """

    decoded: Iterator[DecodedFrame]
    fps: float | None
    frames: int | None
    close: Callable[[], None]
    live: bool = False
    aspect: Fraction = Fraction(1)
    sound: Sound | None = None
    damaged: int = 0
    interrupted: threading.Event = field(default_factory=threading.Event)
