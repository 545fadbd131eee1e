"""Decoding of files, cameras and network streams with FFmpeg."""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from canton.errors import UserError, require

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
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
URL_SCHEMES = ("rtsp://", "rtsps://", "rtmp://", "http://", "https://", "udp://", "tcp://", "srt://")
CAMERA_DEVICES = {"Linux": ("v4l2", "/dev/video{}"), "Darwin": ("avfoundation", "{}")}
"""Input format and device name of a camera, by operating system."""
DURATION_FROM_ZERO = ("matroska", "asf", "nut")
"""Containers whose duration counts from time 0 instead of from their first frame."""
IMAGE_FOLDER_FPS = 30.0
"""Frame rate of a folder of images."""
MAX_LOST_PACKETS = 300
"""Consecutive packets of a live stream that may be undecodable (about ten seconds) before reading stops."""

Image = NDArray[np.uint8]

# Limited-range video stores black as 16 and white as 235: ITU-R BT.601, 2.5.3.
_FULL_RANGE = np.clip(np.rint((np.arange(256) - 16) * (255 / 219)), 0, 255).astype(np.uint8)
_JPEG_RANGE = 2


class ReadError(Exception):
    """Reading stopped before the end of the source; the message is one line."""


class DecodedFrame(NamedTuple):
    """A decoded frame whose pixels are not converted yet.

    Args:
        seconds: time by the source's clock. None: the source has none.
        size: width and height in px.
        pixels: function of `gray` that returns (H, W, 3) RGB, or (H, W, 1) if `gray`. Valid until the next
            frame is decoded.
    """

    seconds: float | None
    size: tuple[int, int]
    pixels: Callable[[bool], Image]


class Source(NamedTuple):
    """An open source of frames.

    Args:
        decoded: iterator over the frames.
        fps: frames per second by the source's header, or None.
        frames: number of frames by the source's header, or None.
        close: closes the source.
        live: whether the source is a live stream.
    """

    decoded: Iterator[DecodedFrame]
    fps: float | None
    frames: int | None
    close: Callable[[], None]
    live: bool = False


def open_stream(name: str, timeout: float) -> Source:
    """Open a file, a camera number or a URL.

    Raises:
        UserError: it cannot be opened as a video.
    """
    av = require("av", extra="track")
    live, url = True, name
    options: dict[str, Any] = {}
    if name.isdigit() and not Path(name).exists():
        if platform.system() not in CAMERA_DEVICES:
            raise UserError(f"cannot open camera {name} on {platform.system()}: use a URL or a file")
        form, pattern = CAMERA_DEVICES[platform.system()]
        url, options = pattern.format(name), {"format": form}
    elif name.lower().startswith(URL_SCHEMES):
        options = {"timeout": timeout}
        if name.lower().startswith("rtsp"):
            options["options"] = {"rtsp_transport": "tcp"}  # a lost UDP packet would damage the image
    else:
        live = False
        _check_file(name)
    return _open(av, name, url, options, timeout, live)


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


def _open(av: ModuleType, name: str, url: str, options: dict[str, Any], timeout: float, live: bool) -> Source:
    start = time.monotonic()
    try:
        container: InputContainer = av.open(url, **options)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        source = f"camera {name}" if name.isdigit() else name
        timed_out = "timeout" in options and time.monotonic() - start >= timeout  # RTSP does not report it
        reason = _timeout_message(timeout) if timed_out else _reason(error, timeout)
        raise UserError(f"cannot open {source} as a video: {reason}") from error
    stream = _video_stream(av, container)
    if stream is None:
        other = "audio" if container.streams.audio else "other data"
        container.close()
        raise UserError(f"{name} has no video stream, only {other}")
    live = live and not (name.lower().startswith("http") and _has_end(container, stream))
    # Frame threading is faster for large frames, but reports a broken frame some frames later.
    stream.thread_type = "SLICE"
    rate = stream.average_rate or stream.guessed_rate
    fps = float(rate) if rate else None
    end_check = None if live else _EndCheck(av, container, stream, fps or IMAGE_FOLDER_FPS)
    return Source(
        _decode(av, container, stream, timeout, end_check),
        fps=fps,
        frames=stream.frames or None,
        close=container.close,
        live=live,
    )


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


class _EndCheck:
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

    def check(self) -> None:
        """Check the end, after the last frame.

        Raises:
            ReadError: frames are missing.
        """
        stated = self._stream.frames
        if not self._frames or 0 < stated <= self._frames:
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


def _decode(
    av: ModuleType,
    container: InputContainer,
    stream: VideoStream,
    timeout: float,
    end_check: _EndCheck | None,
) -> Iterator[DecodedFrame]:
    """Yield the frames of a stream. end_check: None for a live stream."""
    lost, max_lost = 0, 0 if end_check else MAX_LOST_PACKETS
    try:
        for packet in container.demux(stream):
            if end_check:
                end_check.add_packet(packet)
            try:
                frames = packet.decode()
                lost = 0
            except av.error.InvalidDataError:
                lost += 1
                if lost > max_lost:
                    yield from _flush(packet, stream)
                    raise
                continue
            for frame in frames:
                if end_check:
                    end_check.add_frame(frame)
                yield _frame(frame, stream)
    except (av.error.FFmpegError, OSError) as error:
        raise ReadError(_reason(error, timeout)) from error
    if end_check:
        end_check.check()


def _flush(broken: Packet[VideoStream], stream: VideoStream) -> Iterator[DecodedFrame]:
    """Yield the frames before a broken packet that the decoder holds back for reordering."""
    for frame in stream.decode(None):
        if frame.pts is None or broken.pts is None or frame.pts < broken.pts:
            yield _frame(frame, stream)


def _frame(frame: VideoFrame, stream: VideoStream) -> DecodedFrame:
    turns = round(frame.rotation / 90) % 4  # counterclockwise

    def pixels(gray: bool) -> Image:
        image = _gray(frame) if gray else _rgb(frame)
        return np.ascontiguousarray(np.rot90(image, turns)) if turns else image

    size = (frame.width, frame.height)
    # frame.time is not used: flushed frames do not know the stream's time base.
    seconds = None if frame.pts is None or not stream.time_base else float(frame.pts * stream.time_base)
    return DecodedFrame(seconds, size[::-1] if turns % 2 else size, pixels)


def _rgb(frame: VideoFrame) -> Image:
    return cast(Image, frame.to_ndarray(format="rgb24"))


def _gray(frame: VideoFrame) -> Image:
    """Return the luma (H, W, 1). Reading the plane is faster than FFmpeg's conversion to gray."""
    if not frame.format.name.startswith(("yuv4", "nv12", "yuvj4")) or frame.format.components[0].bits != 8:
        return cast(Image, _rgb(frame)[..., 1:2].copy())
    plane = frame.planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    luma = rows[: frame.height, : frame.width, None]
    full_range = frame.color_range == _JPEG_RANGE or frame.format.name.startswith("yuvj")
    if full_range:
        return cast(Image, luma.copy())
    # OpenCV's lookup table is many times faster than NumPy's indexing.
    converted = require("cv2", extra="track").LUT(luma, _FULL_RANGE).reshape(luma.shape)
    return cast(Image, converted)


def image_files(folder: Path) -> list[Path]:
    """Return the images of a folder in natural order: frame 9 before frame 10."""
    return sorted((path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES), key=_natural)


def _reason(error: Exception, timeout: float) -> str:
    """Return an FFmpeg error's message in one line."""
    if "timed out" in str(error).lower() or type(error).__name__ in ("ExitError", "TimeoutError"):
        return _timeout_message(timeout)
    text = str(getattr(error, "strerror", None) or error)
    return text.splitlines()[0][:160] if text else type(error).__name__


def _timeout_message(timeout: float) -> str:
    return f"no answer within {timeout:g} s"


def _natural(path: Path) -> list[int | str]:
    """Return the key of the natural order."""
    parts = re.split(r"(\d+)", path.name)
    return [int(part) if k % 2 else part for k, part in enumerate(parts)]
