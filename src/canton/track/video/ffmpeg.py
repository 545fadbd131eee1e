"""What delivers the frames of files, cameras and addresses, which is FFmpeg; and what lies in folders."""

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
"""Endings of films. Of two with one name the earlier ending is meant: a .gif is a preview more often."""
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
ADDRESSES = ("rtsp://", "rtsps://", "rtmp://", "http://", "https://", "udp://", "tcp://", "srt://")
CAMERAS = {"Linux": ("v4l2", "/dev/video{}"), "Darwin": ("avfoundation", "{}")}
FROM_ZERO = ("matroska", "asf", "nut")
"""Containers whose length counts from time 0, not from their first frame."""
IMAGE_FOLDER_FPS = 30.0
"""Frames a second that a folder of pictures is taken to have."""
LOST = 300
"""Packets in a row that a live stream may lose (ten seconds or so) before it counts as broken off."""

Picture = NDArray[np.uint8]

# Limited-range video keeps black at 16 and white at 235: ITU-R BT.601, 2.5.3.
_FULL = np.clip(np.rint((np.arange(256) - 16) * (255 / 219)), 0, 255).astype(np.uint8)
_JPEG_RANGE = 2


class Broken(Exception):
    """Reading came to an end before the source did; the message is one line."""


class Decoded(NamedTuple):
    """A frame on its way. seconds: by the source's clock, None if it has none. size: width and height in px.
    pixels: gives (H, W, 3) RGB, or (H, W, 1) when called with True; only until the next frame is asked for.
    """

    seconds: float | None
    size: tuple[int, int]
    pixels: Callable[[bool], Picture]


class Source(NamedTuple):
    """decoded: the frames, once. fps, frames: what it says of itself, or None. close: let it go. live: it
    happens now and waits for nobody.
    """

    decoded: Iterator[Decoded]
    fps: float | None
    frames: int | None
    close: Callable[[], None]
    live: bool = False


def open_stream(name: str, timeout: float) -> Source:
    """A file, a camera's number or an address. Raises: UserError if it cannot be opened as a video."""
    av = require("av", extra="track")
    live, where = True, name
    options: dict[str, Any] = {}
    if name.isdigit() and not Path(name).exists():
        if platform.system() not in CAMERAS:
            raise UserError(
                f"camera {name} cannot be opened on {platform.system()}: give an address or a file"
            )
        form, pattern = CAMERAS[platform.system()]
        where, options = pattern.format(name), {"format": form}
    elif name.lower().startswith(ADDRESSES):
        options = {"timeout": timeout}
        if name.lower().startswith("rtsp"):
            options["options"] = {"rtsp_transport": "tcp"}  # a lost datagram would smear the picture
    else:
        live = False
        _check_file(name)
    return _read(av, name, where, options, timeout, live)


def _check_file(name: str) -> None:
    try:
        empty = Path(name).is_file() and Path(name).stat().st_size == 0
        found = Path(name).exists()
    except OSError:
        found, empty = False, False
    if not found:
        raise UserError(f"cannot read {name}: no such file, folder, camera or address")
    if empty:
        raise UserError(f"{name} is empty: there is nothing to see")


def _read(
    av: ModuleType, name: str, where: str, options: dict[str, Any], timeout: float, live: bool
) -> Source:
    begun = time.monotonic()
    try:
        container: InputContainer = av.open(where, **options)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        what = f"camera {name}" if name.isdigit() else name
        late = "timeout" in options and time.monotonic() - begun >= timeout  # which RTSP does not say
        words = _silence(timeout) if late else _words(error, timeout)
        raise UserError(f"{what} cannot be opened as a video: {words}") from error
    stream = _picture_stream(av, container)
    if stream is None:
        other = "sound" if container.streams.audio else "other data"
        container.close()
        raise UserError(f"{name} has no picture, only {other}")
    live = live and not (name.lower().startswith("http") and _finished(container, stream))
    # A thread a frame is faster with big pictures, but tells of a broken one only some frames later.
    stream.thread_type = "SLICE"
    rate = stream.average_rate or stream.guessed_rate
    fps = float(rate) if rate else None
    end = None if live else _End(av, container, stream, fps or IMAGE_FOLDER_FPS)
    return Source(
        _decoded(av, container, stream, timeout, end),
        fps=fps,
        frames=stream.frames or None,
        close=container.close,
        live=live,
    )


def _finished(container: InputContainer, stream: VideoStream) -> bool:
    """Whether what a web server sends says how long it is: a film, where a camera knows no end."""
    if stream.frames:
        return True
    # An mp4 in fragments, sent without its length in bytes, gives as its own how far it was read until now.
    so_far = container.size < 0 and "mp4" in container.format.name
    return container.duration is not None and not so_far


def _picture_stream(av: ModuleType, container: InputContainer) -> VideoStream | None:
    """The first that moves: not the cover of a song, nor a text file, which FFmpeg would draw."""
    cover = av.stream.Disposition.attached_pic
    for stream in container.streams.video:
        if not stream.disposition & cover and stream.codec_context.name != "ansi":
            return stream
    return None


class _End:
    """Whether the frames of a film reach the end that it says it has; all times in seconds.

    Those of a sound film may be fewer than it counts: where an edit list hides some, or an AVI dropped some.
    """

    def __init__(self, av: ModuleType, container: InputContainer, stream: VideoStream, fps: float) -> None:
        self._stream, self._clock, self._frame = stream, float(stream.time_base or 0), 1 / fps
        self._seen, self._reached, self._hidden = 0, 0.0, 0.0
        form = container.format.name
        self._avi = form == "avi"  # which knows when a packet is due, and guesses its own length
        self._end: float | None = None
        if stream.frames and self._avi:
            self._end = stream.frames * self._clock
        elif stream.frames and stream.duration:
            self._end = ((stream.start_time or 0) + stream.duration) * self._clock
        elif not stream.frames and len(container.streams) == 1 and container.duration:
            start = 0 if form.startswith(FROM_ZERO) else container.start_time or 0
            self._end = (start + container.duration) / av.time_base

    def packet(self, packet: Packet[VideoStream]) -> None:
        """This one came out of the file."""
        start = self._stream.start_time or 0
        if packet.is_discard and packet.pts is not None and packet.pts < start:
            before = (start - packet.pts) * self._clock
            self._hidden = min(self._hidden or before, before)
        if self._avi and packet.dts is not None:
            self._hidden = max(self._hidden, packet.dts * self._clock - self._reached)
            self._reach(packet.dts, packet.duration)

    def frame(self, frame: VideoFrame) -> None:
        """This one was decoded."""
        self._seen += 1
        if not self._avi:
            self._reach(frame.pts, frame.duration)

    def check(self) -> None:
        """To be asked when no more come. Raises: Broken if there should be more."""
        promised = self._stream.frames
        if not self._seen or 0 < promised <= self._seen:
            return
        if not self._end or not self._reached:
            if promised:
                raise Broken(f"there should be {promised}")
            return
        # FFmpeg begins early by a part of the last frame hidden; what an AVI drops, it may drop at its end.
        allowed = self._hidden + self._frame / 2 if promised else max(1.0, 2 * self._frame)
        missing = self._end - self._reached
        if missing > allowed:
            raise Broken(f"the last {round(missing, 3):g} s are missing")

    def _reach(self, begins: int | None, duration: int | None) -> None:
        if begins is not None:
            length = duration * self._clock if duration else self._frame
            self._reached = max(self._reached, begins * self._clock + length)


def _decoded(
    av: ModuleType, container: InputContainer, stream: VideoStream, timeout: float, end: _End | None
) -> Iterator[Decoded]:
    """end: None for a live stream, which has none."""
    lost, may_lose = 0, 0 if end else LOST
    try:
        for packet in container.demux(stream):
            if end:
                end.packet(packet)
            try:
                frames = packet.decode()
                lost = 0
            except av.error.InvalidDataError:
                lost += 1
                if lost > may_lose:
                    yield from _held_back(packet, stream)
                    raise
                continue
            for frame in frames:
                if end:
                    end.frame(frame)
                yield _frame(frame, stream)
    except (av.error.FFmpegError, OSError) as error:
        raise Broken(_words(error, timeout)) from error
    if end:
        end.check()


def _held_back(broken: Packet[VideoStream], stream: VideoStream) -> Iterator[Decoded]:
    """The frames before a broken packet that the decoder still holds, because later ones may come first."""
    for frame in stream.decode(None):
        if frame.pts is None or broken.pts is None or frame.pts < broken.pts:
            yield _frame(frame, stream)


def _frame(frame: VideoFrame, stream: VideoStream) -> Decoded:
    turns = round(frame.rotation / 90) % 4  # degrees, against the clock

    def pixels(gray: bool) -> Picture:
        picture = _gray(frame) if gray else _rgb(frame)
        return np.ascontiguousarray(np.rot90(picture, turns)) if turns else picture

    size = (frame.width, frame.height)
    # Not frame.time: frames that a decoder held back at a break do not know the stream's clock.
    seconds = None if frame.pts is None or not stream.time_base else float(frame.pts * stream.time_base)
    return Decoded(seconds, size[::-1] if turns % 2 else size, pixels)


def _rgb(frame: VideoFrame) -> Picture:
    return cast(Picture, frame.to_ndarray(format="rgb24"))


def _gray(frame: VideoFrame) -> Picture:
    """(H, W, 1): brightness. FFmpeg's own conversion takes longer than that to colour."""
    if not frame.format.name.startswith(("yuv4", "nv12", "yuvj4")) or frame.format.components[0].bits != 8:
        return cast(Picture, _rgb(frame)[..., 1:2].copy())
    plane = frame.planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    bright = rows[: frame.height, : frame.width, None]
    full = frame.color_range == _JPEG_RANGE or frame.format.name.startswith("yuvj")
    if full:
        return cast(Picture, bright.copy())
    # OpenCV's table look-up is many times faster than numpy's
    looked_up = require("cv2", extra="track").LUT(bright, _FULL).reshape(bright.shape)
    return cast(Picture, looked_up)


def image_files(folder: Path) -> list[Path]:
    """The pictures of a folder, frame 9 before frame 10."""
    return sorted((path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES), key=_natural)


def _words(error: Exception, timeout: float) -> str:
    """What a decoder's error says, in one line."""
    if "timed out" in str(error).lower() or type(error).__name__ in ("ExitError", "TimeoutError"):
        return _silence(timeout)
    text = str(getattr(error, "strerror", None) or error)
    return text.splitlines()[0][:160] if text else type(error).__name__


def _silence(timeout: float) -> str:
    return f"no answer for {timeout:g} seconds"


def _natural(path: Path) -> list[int | str]:
    """Sorts frame 9 before frame 10."""
    parts = re.split(r"(\d+)", path.name)
    return [int(part) if k % 2 else part for k, part in enumerate(parts)]
