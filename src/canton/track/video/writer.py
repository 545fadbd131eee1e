"""Writing of videos that stay playable if writing is interrupted."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from canton.errors import UserError, require
from canton.io.atomic import check_writable, create_temp_file, os_error_reason, resolve_link

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import OutputContainer

    from canton.track.video.source import Sound

KEYFRAME_SECONDS = 1.0
"""Keyframe interval. A keyframe starts a fragment, so a power failure loses at most this much."""
MAX_GAP_SECONDS = 3600.0
"""Largest time between two frames. A larger one means that a camera's clock was set."""
MIN_TICKS_PER_SECOND = 90_000
"""Lowest resolution of frame times: that of the MPEG clock."""
MAX_FPS = 1000.0
CRF = 23
"""x264's constant rate factor; 23 is its default."""
PRESET = "superfast"
"""x264's preset: 0.8 times the work of "veryfast", and 1.2 times the file."""
COPIED_SOUND = ("aac", "ac3", "alac", "eac3", "flac", "mp3", "opus")
"""Audio codecs that an .mp4 can hold. Others are encoded as AAC."""
AAC_RATES = (16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
"""Samples per second of AAC."""


class VideoWriter:
    """A writer of H.264 .mp4 files; use it as a context manager.

    The file consists of independent fragments of one second. After Ctrl-C, a kill or a full disk everything
    but the last second plays. An existing file is replaced once the first second is written; until then the
    new file is a hidden file beside it. A symbolic link is kept, and the file it points to is replaced.

    Args:
        path: must end in .mp4. A pipe or a device is written in place.
        width, height: size of the frames in px. An odd side is padded by repeating the last column or row,
            because H.264 stores one colour for two px.
        fps: frame rate of frames that are written without a time.
        aspect: width of a displayed px by its height.
        sound: sound of the video that the frames come from, copied up to each frame's time. None: none.

    Raises:
        UserError: an argument is out of range, the path cannot be written, or the disk is full.
    """

    def __init__(
        self,
        path: Path | str,
        width: int,
        height: int,
        fps: float,
        *,
        aspect: Fraction = Fraction(1),
        sound: Sound | None = None,
    ) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() != ".mp4":
            raise UserError(f"path must end in .mp4, got {path}")
        for name, value in (("width", width), ("height", height)):
            if not 1 <= value <= 16384:
                raise UserError(f"{name} must be in [1, 16384] px, got {value}")
        if not 0 < fps <= MAX_FPS:
            raise UserError(f"fps must be in (0, {MAX_FPS:g}], got {fps}")
        self._target = resolve_link(self.path)
        exists = self._target.is_file()
        check_writable(self._target)
        self.width, self.height, self.fps = width, height, fps
        self.frames = 0
        """Number of frames written."""
        self._av, self._cv2 = require("av", extra="track"), require("cv2", extra="track")
        self._failed = False
        self._complete: os.stat_result | None = None  # of the file after its last complete fragment
        self._temporary: Path | None = None
        self._start: float | None = None  # time of the first frame by the frames' clock
        self._last = self._keyframe = 0  # ticks from the first frame to the last frame and the last keyframe
        try:
            self._temporary = create_temp_file(self._target) if exists else None
            self._container = self._av.open(
                str(self._temporary or self._target),
                "w",
                format="mp4",
                options={
                    "movflags": "frag_keyframe+empty_moov+default_base_moof",
                    "flush_packets": "1",
                    "max_interleave_delta": "1000000",  # us that frames wait for the sound
                },
            )
            rate = max(Fraction(fps).limit_denominator(1001), Fraction(1, 1001))
            # A multiple of the rate's numerator, so that a frame lasts a whole number of ticks.
            self._ticks_per_second = rate.numerator * math.ceil(MIN_TICKS_PER_SECOND / rate.numerator)
            self._period = self._duration = int(self._ticks_per_second / rate)
            self._stream = self._container.add_stream(
                "libx264",
                rate=rate,
                options={
                    "crf": str(CRF),
                    "preset": PRESET,
                    "tune": "zerolatency",  # otherwise x264 buffers dozens of frames, which a kill loses
                    "g": str(max(1, round(KEYFRAME_SECONDS * fps))),
                },
            )
            self._stream.width, self._stream.height = width + width % 2, height + height % 2
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.time_base = Fraction(1, self._ticks_per_second)
            self._stream.codec_context.sample_aspect_ratio = aspect
            self._sound = _SoundWriter(self._container, sound) if sound is not None else None
        except (self._av.error.FFmpegError, OSError) as error:
            if self._temporary is not None:
                self._temporary.unlink()
            raise UserError(f"cannot write {path}: {_reason(error)}") from error

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:  # the first error is the one to report
            with suppress(UserError):
                self.close()

    def write(self, pixels: NDArray[np.uint8], seconds: float | None = None) -> None:
        """Write a frame.

        Args:
            pixels: (height, width, 3) uint8 RGB.
            seconds: presentation time by any clock; the first frame is shown at 0. A frame is shown 1 / fps
                after the last one if it has no time, or if its time is not after the last one's, or is more
                than an hour after it. Later times count from there.

        Raises:
            ValueError: the shape or type is wrong.
            UserError: the frame cannot be written.
        """
        if pixels.shape != (self.height, self.width, 3) or pixels.dtype != np.uint8:
            raise ValueError(
                f"pixels must be uint8 of shape ({self.height}, {self.width}, 3), "
                f"got {pixels.dtype} of shape {pixels.shape}"
            )
        if self.width % 2 or self.height % 2:
            pixels = np.pad(pixels, ((0, self.height % 2), (0, self.width % 2), (0, 0)), mode="edge")
        try:
            # OpenCV's conversion takes a fifth of the time of FFmpeg's.
            planes = self._cv2.cvtColor(np.ascontiguousarray(pixels), self._cv2.COLOR_RGB2YUV_I420)
            frame = self._av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.pts, frame.time_base = self._pts(seconds), Fraction(1, self._ticks_per_second)
            if frame.pts - self._keyframe >= KEYFRAME_SECONDS * self._ticks_per_second:  # x264 counts frames
                frame.pict_type = self._av.video.frame.PictureType.I
                self._keyframe = frame.pts
            self._duration = min(self._period, frame.pts - self._last or self._period)
            self._mux(self._container, frame)
            self._last = frame.pts
            if self._sound is not None:
                self._sound.write(self._last / self._ticks_per_second)
        except (self._av.error.FFmpegError, OSError) as error:
            self._failed = True
            raise UserError(f"cannot write {self.path}: {_reason(error)}") from error
        self.frames += 1

    def _pts(self, seconds: float | None) -> int:
        """Return a frame's presentation time in ticks since the first frame."""
        following = self._last + self._period if self.frames else 0
        if seconds is None or not math.isfinite(seconds):
            return following
        if self._start is not None:
            ticks = round((seconds - self._start) * self._ticks_per_second)
            if self._last < ticks <= self._last + MAX_GAP_SECONDS * self._ticks_per_second:
                return ticks
        self._start = seconds - following / self._ticks_per_second
        return following

    def _mux(self, container: OutputContainer, frame: VideoFrame | None) -> None:
        for packet in self._stream.encode(frame):
            packet.duration = self._duration  # players use that of the last frame
            container.mux(packet)
            if packet.is_keyframe and self.frames:  # the fragment before it is complete
                self._replace()
                found = self._target.stat()
                if self._complete is None or os.path.samestat(found, self._complete):
                    self._complete = found

    def _replace(self) -> None:
        """Replace the existing file, if there is one, by the new file."""
        if self._temporary is not None:
            self._temporary.replace(self._target)
            self._temporary = None

    def close(self) -> None:
        """Write the remaining frames and close the file. Further calls do nothing.

        Raises:
            UserError: the file cannot be written.
        """
        container, self._container = self._container, None
        if container is None:
            return
        done = False
        try:
            if not self._failed and self.frames:
                self._mux(container, None)
                if self._sound is not None:
                    self._sound.close((self._last + self._duration) / self._ticks_per_second)
            container.close()
            if not self._failed and self.frames:
                self._replace()
            done = not self._failed
        except (self._av.error.FFmpegError, OSError) as error:
            if not self._failed:
                raise UserError(f"cannot write {self.path}: {_reason(error)}") from error
        finally:
            if not done or self._temporary is not None:
                self._discard_incomplete()

    def _discard_incomplete(self) -> None:
        """Truncate the file to its complete fragments, or delete it if it has none.

        A pipe, and a file that another process has put in its place, are left alone.
        """
        with suppress(OSError):
            if self._temporary is not None:
                self._temporary.unlink()
            elif self._target.is_file():
                if self._complete is None:
                    self._target.unlink()
                elif os.path.samestat(self._target.stat(), self._complete):
                    os.truncate(self._target, self._complete.st_size)


class _SoundWriter:
    """The sound of a video file: packets are copied, or encoded again if an .mp4 cannot hold them."""

    def __init__(self, container: OutputContainer, sound: Sound) -> None:
        self._container, self._sound = container, sound
        self._last: int | None = None
        self._waiting: Any = None
        codec = sound.stream.codec_context
        self._copied = codec.name.partition("_")[0] in COPIED_SOUND
        self._stream: Any
        if self._copied:
            self._stream = container.add_stream_from_template(sound.stream)
        else:
            layout = "mono" if codec.channels == 1 else "stereo"
            rate = codec.sample_rate if codec.sample_rate in AAC_RATES else max(AAC_RATES)
            self._stream = container.add_stream("aac", rate=rate, layout=layout)
            av = require("av", extra="track")
            self._resampler = av.AudioResampler("fltp", layout, rate)
            self._rate = rate

    def write(self, until: float) -> None:
        """Write the packets that start before `until`, in s of the video."""
        while (packet := self._waiting or next(self._sound.take(), None)) is not None:
            self._waiting = None
            seconds = self._seconds(packet)
            if seconds is not None and seconds >= until:
                self._waiting = packet
                return
            if seconds is not None and seconds >= 0:
                if self._copied:
                    self._copy(packet)
                else:
                    self._encode(packet)

    def close(self, until: float) -> None:
        """Write the last packets."""
        self.write(until)
        if not self._copied and self._last is not None:
            self._container.mux(self._stream.encode(None))

    def _seconds(self, packet: Any) -> float | None:
        if packet.pts is None or packet.dts is None:
            return None
        return float(packet.pts * packet.time_base) - (self._sound.start or 0.0)

    def _copy(self, packet: Any) -> None:
        start = round((self._sound.start or 0.0) / packet.time_base)
        if self._last is not None and packet.dts <= self._last:
            return
        self._last = packet.dts
        packet.pts, packet.dts, packet.stream = packet.pts - start, packet.dts - start, self._stream
        self._container.mux(packet)

    def _encode(self, packet: Any) -> None:
        if self._last is None:
            self._last = round((self._seconds(packet) or 0.0) * self._rate)
        for decoded in packet.decode():
            decoded.pts = None  # samples are counted
            for frame in self._resampler.resample(decoded):
                frame.pts, frame.time_base = self._last, Fraction(1, self._rate)
                self._last += frame.samples
                self._container.mux(self._stream.encode(frame))


def _reason(error: Exception) -> str:
    return os_error_reason(error) if isinstance(error, OSError) else str(error).splitlines()[0]
