"""Reading of videos frame by frame: files, folders of images, cameras and URLs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cached_property
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from canton.errors import UserError
from canton.track.video.ffmpeg import open_stream
from canton.track.video.pictures import is_pictures, open_pictures
from canton.track.video.shot_boundary import ShotBoundaryDetector
from canton.track.video.source import DEFAULT_FPS, DecodedFrame, ReadError, ReadOptions, Sound, Source

MAX_GRAY_CHROMA = 1.5
"""Mean colour difference Cb or Cr, of 255, up to which a frame is gray. One step of a video's chroma is 1.14;
an overcast sky has about 2."""
MAX_BLACK = 24
"""Largest value, of 255, of a frame that is too dark to tell whether it has colour."""


class Frame(NamedTuple):
    """A frame of a video.

    Args:
        index: number of the frame in the source, from 0.
        seconds: time since the first frame.
        pixels: (H, W, 3) RGB, or (H, W, 1) if gray was requested.
        cut: whether a new shot starts here, as at the first frame, at a frame of another size, and after
            a lost connection.
        name: file name of a picture. None: the frame is no picture.
    """

    index: int  # type: ignore[assignment]  # hides tuple.index
    seconds: float
    pixels: NDArray[np.uint8]
    cut: bool
    name: str | None = None


class Video:
    """An iterator over the frames of a video, returned by `open_video`; use it as a context manager.

    Attributes:
        width, height: size of the first frame in px. Others may differ.
        fps: frames per second by the source's header, or None.
        frames: number of frames by the source's header, or None.
        problem: one line on why reading stopped early, or None. Frames before that point are valid.
        live: whether the source is a live stream, so that a slow reader loses frames. A file from a web
            server is not live if the server states its length, or if its name ends like a video's.
        aspect: width of a displayed px by its height; 1 unless the video is anamorphic.
        sound: the sound, if it was asked for and there is some.
        damaged: number of frames or pictures that could not be read and were skipped, so far.
    """

    def __init__(self, name: str, source: Source, *, fps: float | None, gray: bool) -> None:
        self.problem: str | None = None
        self.fps, self.frames, self.live = source.fps, source.frames, source.live
        self._name, self._max_fps, self._gray, self._source = name, fps, gray, source
        decoded = source.decoded
        try:
            first = next(decoded, None)
            if first is None:
                raise UserError(f"{name} has no frames")
            self.width, self.height = first.size
        except ReadError as error:
            self.close()
            raise UserError(f"cannot read {name}: {error}") from error
        except BaseException:
            self.close()
            raise
        if source.sound is not None:
            source.sound.start = first.seconds
        self._first: DecodedFrame | None = first
        self._decoded = chain([first], decoded)

    @cached_property
    def has_colour(self) -> bool:
        """Whether the first frame has colour. A black frame counts as coloured. Read it before the frames.

        Raises:
            RuntimeError: iteration has started.
        """
        if self._first is None:
            raise RuntimeError("has_colour must be read before iteration starts")
        pixels = self._first.pixels(False)
        return int(pixels.max()) <= MAX_BLACK or _chroma(pixels) > MAX_GRAY_CHROMA

    @property
    def aspect(self) -> Fraction:
        return self._source.aspect

    @property
    def sound(self) -> Sound | None:
        return self._source.sound

    @property
    def damaged(self) -> int:
        return self._source.damaged

    def interrupt(self) -> None:
        """End the wait for a lost connection, from any thread."""
        self._source.interrupted.set()

    def __enter__(self) -> Video:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames, once. With `fps`, yield the first frame at or after each tick of that rate."""
        self._first = None
        detector, clock = ShotBoundaryDetector(), _Clock(self._max_fps)
        count, last, size = 0, -1, (self.width, self.height)
        try:
            for decoded in self._decoded:
                last = last + 1 if decoded.index is None else decoded.index
                seconds = clock.advance(last / (self.fps or DEFAULT_FPS), decoded.seconds, decoded.gap)
                new = decoded.size != size or decoded.gap is not None
                size, count = decoded.size, count + 1
                if clock.ticks() or new:
                    pixels = decoded.pixels(self._gray)
                    cut = detector.is_cut(pixels)
                    yield Frame(last, seconds, pixels, cut or new, decoded.name)
        except ReadError as error:
            self.problem = f"{self._name} ends early after {_count(count)}: {error}"


def _chroma(pixels: NDArray[np.uint8]) -> float:
    """Return the larger mean of |Cb| and |Cr| of an RGB frame, by ITU-R BT.601."""
    red, green, blue = (pixels[..., k].astype(np.float32) for k in range(3))
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return max(
        float(np.abs(blue - luma).mean()) * 0.564,
        float(np.abs(red - luma).mean()) * 0.713,
    )


class _Clock:
    """Time since the first frame, and the frames to yield at a lower frame rate (None: all)."""

    def __init__(self, fps: float | None) -> None:
        self._fps, self._ticks, self._start, self._now = fps, 0, 0.0, -1.0

    def advance(self, by_index: float, by_source: float | None, gap: float | None = None) -> float:
        """Return the time of the next frame, from the source if it has one, else from the index.

        gap: seconds since the last frame, if the source's clock was started again.
        """
        time = by_index if by_source is None or math.isnan(by_source) else by_source
        if self._now < 0:
            self._start = time
        elif gap is not None:
            self._start = time - (self._now + gap)
        elif time - self._start < self._now:
            self._start = time - self._now  # the source's clock was set back: continue from here
        self._now = time - self._start
        return self._now

    def ticks(self) -> bool:
        """Return whether this frame is the first at or after a tick."""
        if self._fps is None:
            return True
        due = math.floor(self._now * self._fps + 1e-6)  # times in a file are rounded
        if due < self._ticks:
            return False
        self._ticks = due + 1
        return True


def open_video(
    source: str | Path,
    *,
    fps: float | None = None,
    image_fps: float = DEFAULT_FPS,
    timeout: float = 10.0,
    reconnect: int = 0,
    deinterlace: bool | None = None,
    gray: bool = False,
    sound: bool = False,
    report: Callable[[str], None] | None = None,
) -> Video:
    """Open a video. Frames are turned and mirrored as the file's metadata states, in steps of 90 degrees.

    Grey video of more than 8 bits, such as a thermal camera's counts, is stretched to 8 bits by percentiles
    that follow the scene slowly. HLG and PQ are tone-mapped. Damaged frames are skipped and counted.

    Args:
        source: a file; a folder of images (in natural order); a pattern such as img%05d.png; a file with
            several pages (TIFF, WebP); a camera number such as "0", or /dev/video0; a URL (rtsp://, rtp://,
            http:// and so on); or "-", standard input.
        fps: largest number of frames per second, selected by time. None: all frames.
        image_fps: frame rate of images, which state none.
        timeout: seconds to wait for a URL.
        reconnect: attempts in a row to connect again when a live stream is lost, after 1 s, 2 s, 4 s and so
            on, at most 30 s. 0: the video ends.
        deinterlace: True: deinterlace. False: do not. None: the frames that are flagged as interlaced.
        gray: yield the luma only, which is faster.
        sound: keep the sound's packets in `Video.sound` until they are taken.
        report: called with one line when a picture is skipped or a connection is lost, in the thread that
            reads.

    Raises:
        UserError: the source cannot be opened, is not a video or has no frames.
    """
    for name, rate in (("fps", fps), ("image_fps", image_fps), ("timeout", timeout)):
        if rate is not None and not 0 < rate < math.inf:
            raise UserError(f"{name} must be positive and finite, got {rate}")
    if reconnect < 0:
        raise UserError(f"reconnect must be >= 0, got {reconnect}")
    name = str(source)
    if not name:  # as a folder it would be the working directory
        raise UserError("video must be a file, a folder, a camera number or a URL, got an empty name")
    options = ReadOptions(
        timeout=timeout,
        reconnect=reconnect,
        deinterlace=deinterlace,
        sound=sound,
        image_fps=image_fps,
        report=report or (lambda line: None),
    )
    opened = open_pictures(name, options) if is_pictures(name) else open_stream(name, options)
    return Video(name, opened, fps=fps, gray=gray)


def _count(frames: int) -> str:
    return "1 frame" if frames == 1 else f"{frames} frames"
