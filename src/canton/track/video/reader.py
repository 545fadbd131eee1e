"""Reading of videos frame by frame: files, folders of images, cameras and URLs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from canton.errors import UserError, require
from canton.track.video.ffmpeg import (
    IMAGE_FOLDER_FPS,
    IMAGE_SUFFIXES,
    DecodedFrame,
    ReadError,
    Source,
    image_files,
    open_stream,
)
from canton.track.video.shot_boundary import ShotBoundaryDetector

MAX_GRAY_RANGE = 1.0
"""Mean difference between the channels, of 255, up to which a frame is gray. An overcast sky has about 4."""
MAX_BLACK = 24
"""Largest value, of 255, of a frame that is too dark to tell whether it has colour."""


class Frame(NamedTuple):
    """A frame of a video.

    Args:
        index: number of the frame in the source, from 0.
        seconds: time since the first frame.
        pixels: (H, W, 3) RGB, or (H, W, 1) if gray was requested.
        cut: whether a new shot starts here, as at the first frame.
    """

    index: int  # type: ignore[assignment]  # hides tuple.index
    seconds: float
    pixels: NDArray[np.uint8]
    cut: bool


class Video:
    """An iterator over the frames of a video, returned by `open_video`; use it as a context manager.

    Attributes:
        width, height: size of the frames in px.
        fps: frames per second by the source's header, or None.
        frames: number of frames by the source's header, or None.
        problem: one line on why reading stopped early, or None. Frames before that point are valid.
        live: whether the source is a live stream, so that a slow reader loses frames. A file from a web
            server is not live if the server states its length.
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
        return int(pixels.max()) <= MAX_BLACK or float(np.ptp(pixels, axis=-1).mean()) > MAX_GRAY_RANGE

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
        frames, seconds = 0, 0.0
        try:
            for index, decoded in enumerate(self._decoded):
                if decoded.size != (self.width, self.height):
                    self.problem = (
                        f"{self._name} changes from {self.width} x {self.height} to {decoded.size[0]} x "
                        f"{decoded.size[1]} px at frame {index}: split it there"
                    )
                    return
                seconds = clock.advance(index / (self.fps or IMAGE_FOLDER_FPS), decoded.seconds)
                frames = index + 1
                if clock.ticks():
                    pixels = decoded.pixels(self._gray)
                    yield Frame(index, seconds, pixels, detector.is_cut(pixels))
        except ReadError as error:
            self.problem = f"{self._name} ends early after {_count(frames)}: {error}"


class _Clock:
    """Time since the first frame, and the frames to yield at a lower frame rate (None: all)."""

    def __init__(self, fps: float | None) -> None:
        self._fps, self._ticks, self._start, self._now = fps, 0, 0.0, -1.0

    def advance(self, by_index: float, by_source: float | None) -> float:
        """Return the time of the next frame, from the source if it has one, else from the index."""
        time = by_index if by_source is None or math.isnan(by_source) else by_source
        if self._now < 0:
            self._start = time
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
    source: str | Path, *, fps: float | None = None, timeout: float = 10.0, gray: bool = False
) -> Video:
    """Open a video. Frames are rotated as the file's metadata states, in steps of 90 degrees.

    Args:
        source: a file, a folder of images (in natural order), a camera number such as "0", or a URL (rtsp://,
            http:// and so on).
        fps: largest number of frames per second, selected by time. None: all frames.
        timeout: seconds to wait for a URL.
        gray: yield the luma only, which is faster.

    Raises:
        UserError: the source cannot be opened, is not a video or has no frames.
    """
    if fps is not None and not 0 < fps < math.inf:
        raise UserError(f"fps must be positive and finite, got {fps}")
    if not 0 < timeout < math.inf:
        raise UserError(f"timeout must be positive and finite, got {timeout}")
    name = str(source)
    if not name:  # as a folder it would be the working directory
        raise UserError("video must be a file, a folder, a camera number or a URL, got an empty name")
    opened = _open_folder(Path(name)) if Path(name).is_dir() else open_stream(name, timeout)
    return Video(name, opened, fps=fps, gray=gray)


def _open_folder(folder: Path) -> Source:
    """Open a folder of images.

    Raises:
        UserError: it has none.
    """
    cv2 = require("cv2", extra="track")
    paths = image_files(folder)
    if not paths:
        raise UserError(f"{folder} has no images ({', '.join(suffix[1:] for suffix in IMAGE_SUFFIXES)})")

    def decode() -> Iterator[DecodedFrame]:
        for path in paths:
            image = cv2.imdecode(_read_bytes(path), cv2.IMREAD_COLOR)
            if image is None:
                raise ReadError(f"{path.name} is not a readable image")
            yield DecodedFrame(None, (image.shape[1], image.shape[0]), partial(convert, image))

    def convert(image: NDArray[np.uint8], gray: bool) -> NDArray[np.uint8]:
        if gray:
            return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)[..., None]
        return np.ascontiguousarray(image[..., ::-1])

    return Source(decode(), IMAGE_FOLDER_FPS, len(paths), lambda: None)


def _read_bytes(path: Path) -> NDArray[np.uint8]:
    """Return a file's bytes, or one zero for an empty file, on which `cv2.imdecode` raises."""
    try:
        return np.frombuffer(path.read_bytes() or b"\0", np.uint8)
    except OSError as error:
        raise ReadError(f"cannot read {path.name}: {error.strerror or error}") from error


def _count(frames: int) -> str:
    return "1 frame" if frames == 1 else f"{frames} frames"
