"""Writing a video that can be played however the writing ends."""

from __future__ import annotations

import math
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from canton.errors import UserError, require
from canton.storage import check_writable, reason

KEY_SECONDS = 1.0
"""A whole picture so often: it begins a new fragment, and what is lost when the power goes is shorter."""
QUALITY = 23
"""x264's constant rate factor: its own default, which few eyes tell from the source."""


class Recorder:
    """Writes frames to an .mp4 file, H.264.

    The file is made of fragments of a second, each complete in itself: after Ctrl-C, a kill or on a full disk
    everything but the last second plays. With the first frame an earlier file at `path` is overwritten.

    Args:
        path: ends in .mp4.
        width, height: px of the frames; where one is odd, the last row or column is written twice,
            since H.264 keeps one colour for two px.
        fps: frames a second.

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
        if not 0 < fps <= 1000 or not math.isfinite(fps):
            raise UserError(f"fps is {fps}: it lies above 0, and at most at 1000")
        check_writable(self.path)
        self.width, self.height, self.fps = width, height, fps
        self.frames = 0
        """How many were written."""
        self._av = require("av", extra="track")
        self._failed = False
        try:
            self._container = self._av.open(
                str(self.path),
                "w",
                format="mp4",
                options={"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"},
            )
            rate = Fraction(fps).limit_denominator(1001)
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
        except (self._av.error.FFmpegError, OSError) as error:
            raise UserError(f"cannot write {path}: {_words(error)}") from error

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:  # what went wrong first is what the user is to hear
            with suppress(UserError):
                self.close()

    def write(self, pixels: NDArray[np.uint8]) -> None:
        """Add a frame, (height, width, 3) RGB.

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
            self._container.mux(self._stream.encode(frame))
        except (self._av.error.FFmpegError, OSError) as error:
            self._failed = True
            raise UserError(f"cannot write {self.path}: {_words(error)}") from error
        self.frames += 1

    def close(self) -> None:
        """Write what is still under way. May be called again.

        Raises: UserError if it cannot be written.
        """
        container, self._container = self._container, None
        if container is None:
            return
        try:
            if not self._failed and self.frames:
                container.mux(self._stream.encode(None))
            container.close()
        except (self._av.error.FFmpegError, OSError) as error:
            if not self._failed:
                raise UserError(f"cannot write {self.path}: {_words(error)}") from error


def _words(error: Exception) -> str:
    return reason(error) if isinstance(error, OSError) else str(error).splitlines()[0]
