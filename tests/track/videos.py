"""Small videos for the tests, written with PyAV. The brightness of a frame encodes its number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

WIDTH, HEIGHT = 64, 48


def shade(k: int) -> int:
    """Return the brightness of frame k < 50; steps of four survive compression."""
    return 20 + 4 * k


def number(pixels: np.ndarray) -> int:
    """Return the number of a frame."""
    return round((float(pixels.mean()) - 20) / 4)


def plain(k: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    return np.full((height, width, 3), shade(k), np.uint8)


def noise(count: int) -> np.ndarray:
    """Return noisy frames, of about equal size in a file."""
    return np.random.default_rng(0).integers(0, 255, (count, HEIGHT, WIDTH, 3), np.uint8)


def write_video(
    path: Path,
    images: Iterable[np.ndarray],
    *,
    fps: int = 10,
    codec: str = "libx264",
    times: Sequence[int] | None = None,
    rotation: int | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Write a video. times: in ms. None: constant rate `fps`."""
    images = list(images)
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=fps, options={"g": "5"})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        if rotation is not None:
            stream.set_display_rotation(rotation)
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for k, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[k], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def sound(path: Path) -> Path:
    """Write 0.1 s of silent audio without video."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        stream.layout = "mono"
        for k in range(5):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 44100, 1024 * k
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def resized(path: Path) -> Path:
    """Write a stream of five frames of 64 x 48 px and five of 32 x 48."""
    parts = [
        write_video(path.with_name(f"{name}.h264"), [plain(k, width) for k in span])
        for name, width, span in (("wide", WIDTH, range(5)), ("narrow", 32, range(5, 10)))
    ]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path
