"""Reading video, one frame at a time: a file, a folder of pictures, a camera, or an address."""

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
    Broken,
    Decoded,
    Source,
    image_files,
    open_stream,
)
from canton.track.video.shot_boundary import ShotBoundaryDetector

FAINT = 1.0
"""Of 255: channels that differ by no more, on average, are grey; a grey sky differs by four."""
DARK = 24
"""Of 255: a picture that is nowhere brighter tells nothing of its colours."""


class Frame(NamedTuple):
    """One frame. index: its number in the source, from 0. seconds: since the first. pixels: (H, W, 3), RGB,
    or (H, W, 1) where brightness alone was asked for. cut: the picture does not follow from the one before;
    so of the first.
    """

    index: int  # type: ignore[assignment]  # tuple.index is of no use here
    seconds: float
    pixels: NDArray[np.uint8]
    cut: bool


class Video:
    """Frames, one after the other; made by `open_video`, closed by `with`.

    width, height: px. fps: frames a second the source says it has, None if it does not say. frames: how many
    it says it has, None if it does not say. problem: what broke the source off, one line, None if nothing
    did; frames before the break have been given. live: it happens now, as before a camera: who is too slow
    misses something. A film from a web server is not, if it says how long it is.
    """

    def __init__(self, name: str, source: Source, *, fps: float | None, gray: bool) -> None:
        self.problem: str | None = None
        self.fps, self.frames, self.live = source.fps, source.frames, source.live
        self._name, self._wanted, self._gray, self._source = name, fps, gray, source
        decoded = source.decoded
        try:
            first = next(decoded, None)
            if first is None:
                raise UserError(f"{name} has no frames: it is not a video, or an empty one")
            self.width, self.height = first.size
        except Broken as error:
            self.close()
            raise UserError(f"{name} cannot be read: {error}") from error
        except BaseException:
            self.close()
            raise
        self._first: Decoded | None = first
        self._decoded = chain([first], decoded)

    @cached_property
    def has_colour(self) -> bool:
        """Whether its first frame has colours: a picture of heat has none, unless they were put on it. A
        black one, as films begin with, is taken for coloured. To be asked before the frames are.

        Raises: RuntimeError afterwards.
        """
        if self._first is None:
            raise RuntimeError("ask for coloured before taking frames")
        pixels = self._first.pixels(False)
        return int(pixels.max()) <= DARK or float(np.ptp(pixels, axis=-1).mean()) > FAINT

    def __enter__(self) -> Video:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the source go."""
        self._source.close()

    def __iter__(self) -> Iterator[Frame]:
        """The frames, once; where `fps` was asked for, the first one at or after each tick of that clock."""
        self._first = None
        finder, clock = ShotBoundaryDetector(), _Clock(self._wanted)
        seen, seconds = 0, 0.0
        try:
            for index, decoded in enumerate(self._decoded):
                if decoded.size != (self.width, self.height):
                    self.problem = (
                        f"{self._name} changes from {self.width} x {self.height} to {decoded.size[0]} x "
                        f"{decoded.size[1]} px at frame {index}: cut it there and give the parts one by one"
                    )
                    return
                seconds = clock.set(index / (self.fps or IMAGE_FOLDER_FPS), decoded.seconds)
                seen = index + 1
                if clock.ticks():
                    pixels = decoded.pixels(self._gray)
                    yield Frame(index, seconds, pixels, finder.is_cut(pixels))
        except Broken as error:
            self.problem = f"{self._name} breaks off after {_frames(seen)}: {error}"


class _Clock:
    """Seconds since the first frame, and which frames are taken at so many a second (None: all)."""

    def __init__(self, wanted: float | None) -> None:
        self._wanted, self._ticks, self._start, self._now = wanted, 0, 0.0, -1.0

    def set(self, by_number: float, by_file: float | None) -> float:
        """What time it is; by what the file says, or else by the frame's number."""
        says = by_number if by_file is None or math.isnan(by_file) else by_file
        if self._now < 0:
            self._start = says
        elif says - self._start < self._now:
            self._start = says - self._now  # a camera set its clock back: go on from here
        self._now = says - self._start
        return self._now

    def ticks(self) -> bool:
        """Whether this frame is the first at or after a tick."""
        if self._wanted is None:
            return True
        due = math.floor(self._now * self._wanted + 1e-6)  # times of a file are rounded
        if due < self._ticks:
            return False
        self._ticks = due + 1
        return True


def open_video(
    source: str | Path, *, fps: float | None = None, timeout: float = 10.0, gray: bool = False
) -> Video:
    """Open a video.

    Args:
        source: a file, a folder of pictures (in natural order of their names), a camera's number such as "0",
            or an address (rtsp://, http:// and so on).
        fps: give at most so many frames a second, chosen by their time; None for all.
        timeout: seconds to wait for an address that does not answer.
        gray: brightness alone; from most files it is had without converting anything.

    A rotation by quarters that the file asks for is carried out.

    Raises: UserError, one line, for a source that is not there, is not a video, has none or no frames.
    """
    if fps is not None and not 0 < fps < math.inf:
        raise UserError(f"fps is {fps}: it is a positive number")
    if not 0 < timeout < math.inf:
        raise UserError(f"timeout is {timeout}: it is a positive number of seconds")
    name = str(source)
    if not name:  # which as a folder would be this one
        raise UserError("the video has an empty name: give a file, a folder, a camera or an address")
    opened = _open_folder(Path(name)) if Path(name).is_dir() else open_stream(name, timeout)
    return Video(name, opened, fps=fps, gray=gray)


def _open_folder(folder: Path) -> Source:
    """A folder of pictures. Raises: UserError if there are none."""
    cv2 = require("cv2", extra="track")
    paths = image_files(folder)
    if not paths:
        raise UserError(f"{folder} holds no pictures ({', '.join(ending[1:] for ending in IMAGE_SUFFIXES)})")

    def decoded() -> Iterator[Decoded]:
        for path in paths:
            picture = cv2.imdecode(_bytes(path), cv2.IMREAD_COLOR)
            if picture is None:
                raise Broken(f"{path.name} is no picture that can be read")
            yield Decoded(None, (picture.shape[1], picture.shape[0]), partial(give, picture))

    def give(picture: NDArray[np.uint8], gray: bool) -> NDArray[np.uint8]:
        if gray:
            return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), np.uint8)[..., None]
        return np.ascontiguousarray(picture[..., ::-1])

    return Source(decoded(), IMAGE_FOLDER_FPS, len(paths), lambda: None)


def _bytes(path: Path) -> NDArray[np.uint8]:
    """Empty files become one zero, which OpenCV calls no picture; on nothing at all it raises."""
    try:
        return np.frombuffer(path.read_bytes() or b"\0", np.uint8)
    except OSError as error:
        raise Broken(f"{path.name} cannot be read: {error.strerror or error}") from error


def _frames(count: int) -> str:
    return "1 frame" if count == 1 else f"{count} frames"
