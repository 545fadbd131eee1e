"""Decoding of files, cameras and network streams with FFmpeg."""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from canton.errors import UserError, require
from canton.track.video.deinterlace import Deinterlacer
from canton.track.video.end_check import EndCheck
from canton.track.video.pixels import FrameConverter, Orientation, orientation
from canton.track.video.source import DEFAULT_FPS, DecodedFrame, ReadError, ReadOptions, Sound, Source

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

VIDEO_SUFFIXES = (
    *(".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"),
    *(".3g2", ".3gp", ".asf", ".divx", ".f4v", ".flv", ".h264", ".ivf", ".m2ts", ".m2v", ".mjpeg", ".mts"),
    *(".mxf", ".nut", ".ogv", ".rm", ".vob", ".y4m", ".gif"),
)
"""File name extensions of videos. Of two files with one stem the earlier extension is used: a .gif is often a
preview."""
URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")
FILE_SERVERS = ("http", "https", "ftp", "sftp")
"""Protocols that transfer files, and live streams too. All others are live."""
CAMERA_DEVICES = {"Linux": ("v4l2", "/dev/video{}"), "Darwin": ("avfoundation", "{}")}
"""Input format and device name of a camera, by operating system."""
STANDARD_INPUT = "-"
MAX_LOST_PACKETS = 300
"""Consecutive packets of a live stream that may be undecodable (about ten seconds) before it is reopened."""
MAX_WAIT_SECONDS = 30.0
"""Longest wait before another attempt to reconnect. The first wait is 1 s, and each is twice the last."""


class _Address(NamedTuple):
    """How a source is opened. unending: its end means that the connection is lost."""

    name: str
    url: str
    options: dict[str, Any]
    live: bool
    unending: bool


def is_stream_name(name: str) -> bool:
    """Return whether a source is a camera, a URL or standard input, and not a file."""
    return name == STANDARD_INPUT or bool(URL.match(name)) or _camera(name) is not None


def open_stream(name: str, options: ReadOptions) -> Source:
    """Open a file, a camera, a URL, or "-", standard input.

    Raises:
        UserError: it cannot be opened as a video.
    """
    av = require("av", extra="track")
    address = _address(name, options.timeout)
    container, stream = _open(av, address, options.timeout)
    live = address.live
    if live and not address.unending:
        live = not (_is_file_name(name) or _has_end(container, stream))
    rate = stream.average_rate or stream.guessed_rate
    fps = float(rate) if rate else None
    audio = container.streams.audio[0] if options.sound and container.streams.audio else None
    source = Source(
        iter(()),
        fps=fps,
        frames=stream.frames or None,
        close=container.close,
        live=live,
        sound=Sound(audio) if audio is not None else None,
    )
    reader = _Reader(av, address, options, source, container, stream)
    source.decoded = reader.frames()
    source.close = reader.close
    return source


def _camera(name: str) -> str | None:
    """Return a camera's number or device, or None if the name is another source."""
    if name.isdigit() and not Path(name).exists():
        return name
    return name if re.fullmatch(r"/dev/video\d+", name) else None


def _address(name: str, timeout: float) -> _Address:
    """Return how to open a source.

    Raises:
        UserError: there is no such source.
    """
    camera = _camera(name)
    if camera is not None:
        if platform.system() not in CAMERA_DEVICES:
            raise UserError(f"cannot open camera {name} on {platform.system()}: use a URL or a file")
        form, pattern = CAMERA_DEVICES[platform.system()]
        url = pattern.format(camera) if camera.isdigit() else camera
        return _Address(name, url, {"format": form}, live=True, unending=True)
    if name == STANDARD_INPUT:
        return _Address(name, "pipe:0", {}, live=False, unending=False)
    if URL.match(name):
        scheme = name.partition(":")[0].lower()
        if scheme == "file":
            return _Address(name, name, {}, live=False, unending=False)
        options: dict[str, Any] = {"timeout": timeout}
        if scheme in ("rtsp", "rtsps"):
            options["options"] = {"rtsp_transport": "tcp"}  # a lost UDP packet would damage the image
        return _Address(name, name, options, live=True, unending=scheme not in FILE_SERVERS)
    _check_file(name)
    # a name with a colon would be a protocol
    return _Address(name, f"file:{name}" if ":" in name else name, {}, live=False, unending=False)


def _check_file(name: str) -> None:
    try:
        empty = Path(name).is_file() and Path(name).stat().st_size == 0
        found = Path(name).exists()
    except OSError:
        found, empty = False, False
    if not found:
        raise UserError(f"cannot read {name}: no such file, folder, camera or URL")
    if empty:
        raise UserError(f"cannot read {name}: the file is empty")


def _is_file_name(url: str) -> bool:
    return Path(urlsplit(url).path).suffix.lower() in VIDEO_SUFFIXES


def _open(av: ModuleType, address: _Address, timeout: float) -> tuple[InputContainer, VideoStream]:
    start = time.monotonic()
    try:
        container: InputContainer = av.open(address.url, **address.options)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        source = f"camera {address.name}" if address.name.isdigit() else address.name
        # RTSP does not report it
        timed_out = "timeout" in address.options and time.monotonic() - start >= timeout
        reason = _timeout_message(timeout) if timed_out else _reason(error, timeout)
        raise UserError(f"cannot open {source} as a video: {reason}") from error
    stream = _video_stream(av, container)
    if stream is None:
        other = "audio" if container.streams.audio else "other data"
        container.close()
        raise UserError(f"{address.name} has no video stream, only {other}")
    # Frame threading is faster for large frames, but reports a broken frame some frames later.
    stream.thread_type = "SLICE"
    return container, stream


def _has_end(container: InputContainer, stream: VideoStream) -> bool:
    """Return whether a file from a web server states its length, which a camera does not."""
    if stream.frames:
        return True
    # A fragmented mp4 without a content length reports the duration of the part read so far.
    unknown = container.size < 0 and "mp4" in container.format.name
    return container.duration is not None and not unknown


def _video_stream(av: ModuleType, container: InputContainer) -> VideoStream | None:
    """Return the first video stream that is neither cover art nor a text file rendered by FFmpeg."""
    cover = av.stream.Disposition.attached_pic
    for stream in container.streams.video:
        if not stream.disposition & cover and stream.codec_context.name != "ansi":
            return stream
    return None


class _Reader:
    """A reader of one source, which is opened again if a live connection is lost."""

    def __init__(
        self,
        av: ModuleType,
        address: _Address,
        options: ReadOptions,
        source: Source,
        container: InputContainer,
        stream: VideoStream,
    ) -> None:
        self._av, self._address, self._options, self._source = av, address, options, source
        self._container, self._stream = container, stream
        self._converter = FrameConverter()

    def close(self) -> None:
        self._container.close()

    def frames(self) -> Iterator[DecodedFrame]:
        """Yield the frames.

        Raises:
            ReadError: reading stopped early, and a lost connection did not come back.
        """
        decoded: Iterator[DecodedFrame] = self._decode()
        while True:
            try:
                yield from decoded
                if not (self._source.live and self._address.unending and self._options.reconnect):
                    return
                reason = "the stream ended"
            except ReadError as error:
                if not (self._source.live and self._options.reconnect):
                    raise
                reason = str(error)
            lost = time.monotonic()
            if not self._reconnect(reason):
                return
            again = self._decode()
            first = next(again, None)
            if first is not None:
                gap = time.monotonic() - lost
                self._options.report(f"{self._address.name}: connected again after {gap:.1f} s")
                decoded = chain([first._replace(gap=gap)], again)
            else:
                decoded = iter(())

    def _reconnect(self, reason: str) -> bool:
        """Open the source again. Return False if the wait was interrupted.

        Raises:
            ReadError: no attempt succeeded.
        """
        name, attempts = self._address.name, self._options.reconnect
        self._options.report(f"{name}: connection lost ({reason}); connecting again")
        self._container.close()
        for attempt in range(attempts):
            if self._source.interrupted.wait(min(MAX_WAIT_SECONDS, 2.0**attempt)):
                return False
            try:
                self._container, self._stream = _open(self._av, self._address, self._options.timeout)
            except UserError as error:
                reason = str(error)
                continue
            self._source.sound = None  # its times do not continue
            return True
        tries = "1 attempt" if attempts == 1 else f"{attempts} attempts"
        raise ReadError(f"{reason}, after {tries} to connect again")

    def _decode(self) -> Iterator[DecodedFrame]:
        """Yield the frames of one connection. Damaged frames are skipped and counted."""
        source, stream = self._source, self._stream
        end_check = None
        if not source.live:
            end_check = EndCheck(self._av, self._container, stream, source.fps or DEFAULT_FPS)
        deinterlacer = Deinterlacer(self._options.deinterlace)
        lost = undecoded = 0
        cut_off = 0  # damaged frames of the last packet, which ends early in a truncated file
        try:
            for packet in self._packets():
                if packet.size and not packet.is_corrupt:
                    source.damaged, cut_off = source.damaged + cut_off, 0
                if end_check and not packet.is_corrupt:
                    end_check.add_packet(packet)
                damaged = 0
                try:
                    frames = packet.decode()
                    lost = 0
                except self._av.error.EOFError:
                    continue
                except self._av.error.FFmpegError as error:
                    frames, damaged, lost = [], int(packet.size > 0), lost + 1
                    undecoded += damaged
                    if source.live and lost > MAX_LOST_PACKETS:
                        raise ReadError(_reason(error, self._options.timeout)) from error
                for frame in frames:
                    if end_check:
                        end_check.add_frame(frame)
                    if frame.is_corrupt:
                        damaged += 1
                        continue
                    for whole in deinterlacer.push(frame):
                        yield self._frame(whole)
                if packet.is_corrupt:
                    cut_off += max(1, damaged)
                else:
                    source.damaged += damaged
            for whole in deinterlacer.flush():
                yield self._frame(whole)
        except (self._av.error.FFmpegError, OSError) as error:
            raise ReadError(_reason(error, self._options.timeout)) from error
        if end_check:
            end_check.check(undecoded)
            if cut_off:
                raise ReadError("the last frame is cut off")

    def _packets(self) -> Iterator[Packet[VideoStream]]:
        """Yield the video's packets, and keep those of the sound."""
        sound = self._source.sound
        streams = [self._stream, *([sound.stream] if sound is not None else [])]
        for packet in self._container.demux(streams):
            if packet.stream.index == self._stream.index:
                yield cast("Packet[VideoStream]", packet)
            elif sound is not None:
                sound.add(packet)

    def _frame(self, frame: VideoFrame) -> DecodedFrame:
        placed = orientation(frame)
        aspect = self._stream.sample_aspect_ratio or Fraction(1)
        self._source.aspect = 1 / aspect if placed.turns % 2 else Fraction(aspect)
        # frame.time is not used: flushed frames do not know the stream's time base.
        tick = frame.time_base or self._stream.time_base
        seconds = None if frame.pts is None or not tick else float(frame.pts * tick)
        return DecodedFrame(
            seconds, placed.size(frame.width, frame.height), partial(self._pixels, frame, placed)
        )

    def _pixels(self, frame: VideoFrame, placed: Orientation, gray: bool) -> NDArray[np.uint8]:
        try:
            return placed.apply(self._converter.convert(frame, gray))
        except (self._av.error.FFmpegError, ValueError) as error:
            raise ReadError(f"cannot convert {frame.format.name}: {_reason(error, 0)}") from error


def _reason(error: Exception, timeout: float) -> str:
    """Return an FFmpeg error's message in one line."""
    if "timed out" in str(error).lower() or type(error).__name__ in ("ExitError", "TimeoutError"):
        return _timeout_message(timeout)
    text = str(getattr(error, "strerror", None) or error)
    return text.splitlines()[0][:160] if text else type(error).__name__


def _timeout_message(timeout: float) -> str:
    return f"no answer within {timeout:g} s"
