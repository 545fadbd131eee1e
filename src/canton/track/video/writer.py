"""Writing a video that can be played however the writing ends."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from canton.errors import UserError, require
from canton.io.atomic import check_writable, create_temp_file, os_error_reason, resolve_link

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import OutputContainer

KEY_SECONDS = 1.0
"""A whole picture so often: it begins a new fragment, and what is lost when the power goes is shorter."""
LONGEST_SECONDS = 3600.0
"""Between two frames; more than that is a camera's clock set anew."""
FINE = 90_000
"""Ticks a second at least, by which frames are timed: as MPEG's clock."""
MAX_FPS = 1000.0
QUALITY = 23
"""x264's constant rate factor: its own default, which few eyes tell from the source."""


class VideoWriter:
    """Writes frames to an .mp4 file, H.264.

    The file is made of fragments of a second, each complete in itself: after Ctrl-C, a kill or on a full disk
    everything but the last second plays. An earlier file at `path` stays until the first second is written;
    the new one lies beside it so long, hidden. Where `path` is a link, this holds for the file it leads to.

    Args:
        path: ends in .mp4. A pipe or a device is written to as it is, and stays.
        width, height: px of the frames; where one is odd, the last row or column is written twice,
            since H.264 keeps one colour for two px.
        fps: frames a second; of those written without a time of their own, exactly.

    Raises: UserError for a size or rate that cannot be, or a path that cannot be written, before anything is
    written, and when the disk is full.
    """

    def __init__(self, path: Path | str, width: int, height: int, fps: float) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() != ".mp4":
            raise UserError(f"cannot write {path}: a video is written as .mp4")
        for name, value in (("width", width), ("height", height)):
            if not 1 <= value <= 16384:
                raise UserError(f"{name} is {value}: it lies between 1 and 16384 px")
        if not 0 < fps <= MAX_FPS:
            raise UserError(f"fps is {fps}: it lies above 0, and at most at {MAX_FPS:g}")
        self._place = resolve_link(self.path)
        earlier = self._place.is_file()
        check_writable(self._place)
        self.width, self.height, self.fps = width, height, fps
        self.frames = 0
        """How many were written."""
        self._av = require("av", extra="track")
        self._failed = False
        self._whole: os.stat_result | None = None  # of the file, when its last whole fragment was written
        self._part: Path | None = None
        self._begin: float | None = None  # what time the first frame has, by the clock that frames come with
        self._last = self._key = 0  # ticks since the first, of the last frame and the last whole picture
        try:
            self._part = create_temp_file(self._place) if earlier else None
            self._container = self._av.open(
                str(self._part or self._place),
                "w",
                format="mp4",
                options={"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"},
            )
            rate = max(Fraction(fps).limit_denominator(1001), Fraction(1, 1001))
            self._second = rate.numerator * math.ceil(FINE / rate.numerator)  # in ticks, of which
            self._period = self._gap = int(self._second / rate)  # a frame at this rate has a whole number
            self._stream = self._container.add_stream(
                "libx264",
                rate=rate,
                options={
                    "crf": str(QUALITY),
                    "preset": "veryfast",
                    "tune": "zerolatency",  # or x264 holds back dozens of frames, lost when it is killed
                    "g": str(max(1, round(KEY_SECONDS * fps))),
                },
            )
            self._stream.width, self._stream.height = width + width % 2, height + height % 2
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.time_base = Fraction(1, self._second)
        except (self._av.error.FFmpegError, OSError) as error:
            if self._part is not None:
                self._part.unlink()
            raise UserError(f"cannot write {path}: {_words(error)}") from error

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:  # what went wrong first is what the user is to hear
            with suppress(UserError):
                self.close()

    def write(self, pixels: NDArray[np.uint8], seconds: float | None = None) -> None:
        """Add a frame, (height, width, 3) RGB.

        seconds: when it is shown, by any clock; the first frame begins the film. A frame without a time, or
        whose time is not after the last one's, or an hour after it, is shown 1 / fps after the last, and the
        clock goes on from there.

        Raises: ValueError for another shape; UserError if it cannot be written.
        """
        if pixels.shape != (self.height, self.width, 3) or pixels.dtype != np.uint8:
            raise ValueError(
                f"pixels are {pixels.dtype} of shape {pixels.shape}: they are uint8 "
                f"({self.height}, {self.width}, 3)"
            )
        if self.width % 2 or self.height % 2:
            pixels = np.pad(pixels, ((0, self.height % 2), (0, self.width % 2), (0, 0)), mode="edge")
        try:
            frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts, frame.time_base = self._time(seconds), Fraction(1, self._second)
            if frame.pts - self._key >= KEY_SECONDS * self._second:  # x264 counts frames instead
                frame.pict_type = self._av.video.frame.PictureType.I
                self._key = frame.pts
            self._gap = min(self._period, frame.pts - self._last or self._period)
            self._mux(self._container, frame)
            self._last = frame.pts
        except (self._av.error.FFmpegError, OSError) as error:
            self._failed = True
            raise UserError(f"cannot write {self.path}: {_words(error)}") from error
        self.frames += 1

    def _time(self, seconds: float | None) -> int:
        """When a frame is shown, in ticks since the first."""
        after = self._last + self._period if self.frames else 0
        if seconds is None or not math.isfinite(seconds):
            return after
        if self._begin is not None:
            ticks = round((seconds - self._begin) * self._second)
            if self._last < ticks <= self._last + LONGEST_SECONDS * self._second:
                return ticks
        self._begin = seconds - after / self._second
        return after

    def _mux(self, container: OutputContainer, frame: VideoFrame | None) -> None:
        for packet in self._stream.encode(frame):
            packet.duration = self._gap  # counts for the film's last frame, which has no next one
            container.mux(packet)
            if packet.is_keyframe and self.frames:  # the fragment before it is written
                self._replace()
                found = self._place.stat()
                if self._whole is None or os.path.samestat(found, self._whole):
                    self._whole = found

    def _replace(self) -> None:
        """Put the new file in the place of an earlier one."""
        if self._part is not None:
            self._part.replace(self._place)
            self._part = None

    def close(self) -> None:
        """Write what is still under way. May be called again.

        Raises: UserError if it cannot be written.
        """
        container, self._container = self._container, None
        if container is None:
            return
        done = False
        try:
            if not self._failed and self.frames:
                self._mux(container, None)
            container.close()
            if not self._failed and self.frames:
                self._replace()
            done = not self._failed
        except (self._av.error.FFmpegError, OSError) as error:
            if not self._failed:
                raise UserError(f"cannot write {self.path}: {_words(error)}") from error
        finally:
            if not done or self._part is not None:
                self._cut()

    def _cut(self) -> None:
        """Leave whole fragments alone; without one, no new file, and the earlier one if any. A pipe, and what
        someone else has put in the file's place, are not ours to cut.
        """
        with suppress(OSError):
            if self._part is not None:
                self._part.unlink()
            elif self._place.is_file():
                if self._whole is None:
                    self._place.unlink()
                elif os.path.samestat(self._place.stat(), self._whole):
                    os.truncate(self._place, self._whole.st_size)


def _words(error: Exception) -> str:
    return os_error_reason(error) if isinstance(error, OSError) else str(error).splitlines()[0]
