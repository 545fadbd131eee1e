"""Conversion of decoded frames to 8-bit RGB or luma: orientation, bit depth, high dynamic range."""

from __future__ import annotations

import math
import re
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from canton.errors import require

if TYPE_CHECKING:
    from av import VideoFrame

Image = NDArray[np.uint8]

# Limited-range video stores black as 16 and white as 235: ITU-R BT.601, 2.5.3.
_FULL_RANGE = np.clip(np.rint((np.arange(256) - 16) * (255 / 219)), 0, 255).astype(np.uint8)
_JPEG_RANGE = 2
_PQ, _HLG = 16, 18
"""Transfer characteristics of ITU-T H.273, table 3."""
SDR_WHITE_NITS, HDR_PEAK_NITS = 203.0, 1000.0
"""Luminance of graphics white, and of the brightest highlights: ITU-R BT.2408-7, section 2.2; BT.2100-2."""
LOW_PERCENTILE, HIGH_PERCENTILE = 0.5, 99.5
MARGIN = 0.15
"""Share of the span between the percentiles that is added at both ends, for small hot or cold objects."""
MIN_SPAN = 64.0
"""Smallest span of sensor counts that is stretched to the whole range, so that noise is not enlarged."""
ADAPTATION = 0.05
"""Share of the distance to a frame's percentiles that the range follows in one frame."""
MAX_SAMPLES = 20_000


class CountStretch:
    """A conversion of sensor counts to 8 bits that follows the scene slowly.

    Thermal cameras use a small part of 14 or 16 bits. The range between two percentiles is mapped to 0-255.
    It starts anew if a frame's range does not overlap it, as after a calibration of the camera.
    """

    def __init__(self) -> None:
        self._range: tuple[float, float] | None = None

    def convert(self, counts: NDArray[Any]) -> Image:
        """Return (H, W) uint8 for (H, W) counts of any real type. NaN becomes 0."""
        low, high = self._update(counts)
        scaled = (counts.astype(np.float32) - low) * (255 / (high - low))
        finite = np.nan_to_num(np.rint(scaled), nan=0, posinf=255, neginf=0)
        return cast(Image, finite.clip(0, 255).astype(np.uint8))

    def _update(self, counts: NDArray[Any]) -> tuple[float, float]:
        step = max(1, math.isqrt(counts.size // MAX_SAMPLES))
        sample = counts[::step, ::step].astype(np.float64)
        sample = sample[np.isfinite(sample)]
        if sample.size:
            low, high = np.percentile(sample, (LOW_PERCENTILE, HIGH_PERCENTILE))
            missing = max(0.0, MIN_SPAN - (high - low)) / 2
            margin = MARGIN * (high - low) + missing
            low, high = float(low - margin), float(high + margin)
            known = self._range
            if known is None or high < known[0] or low > known[1]:
                self._range = low, high
            else:
                self._range = (
                    known[0] + ADAPTATION * (low - known[0]),
                    known[1] + ADAPTATION * (high - known[1]),
                )
        return self._range or (0.0, 255.0)


class Orientation(NamedTuple):
    """How a frame is displayed: mirrored left to right if `mirror`, then turned `turns` x 90 degrees left."""

    turns: int
    mirror: bool

    def apply(self, image: Image) -> Image:
        """Return the displayed image."""
        if self.mirror:
            image = image[:, ::-1]
        return np.ascontiguousarray(np.rot90(image, self.turns)) if self.turns or self.mirror else image

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height of the displayed image."""
        return (height, width) if self.turns % 2 else (width, height)


def orientation(frame: VideoFrame) -> Orientation:
    """Return the orientation that a frame's display matrix states, to the nearest 90 degrees.

    Source: FFmpeg, libavutil/display.h: x' = a x + c y, y' = b x + d y for the matrix (a b u; c d v; x y w).
    """
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        turns = round(frame.rotation / 90) % 4
        return Orientation(turns, False)
    a, b, _, c, d, *_ = struct.unpack_from("=9i", memoryview(cast(bytes, data)))
    mirror = a * d - b * c < 0
    if mirror:
        a, b = -a, -b
    return Orientation(-round(math.atan2(b, a) / (math.pi / 2)) % 4, mirror)


class FrameConverter:
    """A converter of the frames of one stream."""

    def __init__(self) -> None:
        self._stretch = CountStretch()

    def convert(self, frame: VideoFrame, gray: bool) -> Image:
        """Return (H, W, 3) RGB, or the luma (H, W, 1) if `gray`, without orientation."""
        counts = _counts(frame)
        if counts is not None:
            image = self._stretch.convert(counts)[..., None]
            return image if gray else np.ascontiguousarray(image.repeat(3, -1))
        if frame.color_trc in (_PQ, _HLG):
            deep = cast(NDArray[np.uint16], frame.to_ndarray(format="rgb48le"))
            rgb = cast(Image, _tone_curve(int(frame.color_trc))[deep >> 4])
            return rgb[..., 1:2].copy() if gray else rgb
        return _luma(frame) if gray else cast(Image, frame.to_ndarray(format="rgb24"))


def _counts(frame: VideoFrame) -> NDArray[Any] | None:
    """Return the values of a grey frame of more than 8 bits; None for any other frame."""
    name = frame.format.name
    if not re.match(r"gray(9|1\d|f32)(le|be)?$", name):
        return None
    kind = np.dtype("f4" if name.startswith("grayf32") else "u2")
    plane = frame.planes[0]
    rows = np.frombuffer(memoryview(plane), kind.newbyteorder(">" if name.endswith("be") else "<"))
    return rows.reshape(-1, plane.line_size // kind.itemsize)[: frame.height, : frame.width]


def _luma(frame: VideoFrame) -> Image:
    """Return the luma (H, W, 1). Reading the plane is faster than FFmpeg's conversion to gray."""
    if not frame.format.name.startswith(("yuv4", "nv12", "yuvj4")) or frame.format.components[0].bits != 8:
        return cast(Image, frame.to_ndarray(format="rgb24")[..., 1:2].copy())
    plane = frame.planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    luma = rows[: frame.height, : frame.width, None]
    full_range = frame.color_range == _JPEG_RANGE or frame.format.name.startswith("yuvj")
    if full_range:
        return cast(Image, luma.copy())
    # OpenCV's lookup table is many times faster than NumPy's indexing.
    converted = require("cv2", extra="track").LUT(luma, _FULL_RANGE).reshape(luma.shape)
    return cast(Image, converted)


@lru_cache(maxsize=2)
def _tone_curve(transfer: int) -> Image:
    """Return the 8-bit SDR value of each 12-bit HDR value.

    Source: ITU-R BT.2100-2, table 4 (PQ's EOTF) and table 5 (HLG's inverse OETF and OOTF, per channel);
    Reinhard et al. 2002, "Photographic tone reproduction", eq. 4; the sRGB transfer of IEC 61966-2-1.
    """
    value = np.linspace(0, 1, 4096)
    if transfer == _PQ:
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        power = value ** (1 / m2)
        nits = 10_000 * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)
    else:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        scene = np.where(value <= 0.5, value**2 / 3, (np.exp((value - c) / a) + b) / 12)
        nits = HDR_PEAK_NITS * scene**1.2
    light, peak = nits / SDR_WHITE_NITS, HDR_PEAK_NITS / SDR_WHITE_NITS
    shown = np.clip(light * (1 + light / peak**2) / (1 + light), 0, 1)
    coded = np.where(shown <= 0.0031308, 12.92 * shown, 1.055 * shown ** (1 / 2.4) - 0.055)
    return cast(Image, np.rint(255 * coded).astype(np.uint8))


def picture_to_rgb(image: NDArray[Any], stretch: CountStretch, gray: bool) -> Image:
    """Convert a picture that OpenCV has decoded.

    Args:
        image: (H, W, 3 or 4) BGR, or (H, W), of 8 bits or more.
        stretch: converts grey pictures of more than 8 bits.
        gray: return the luma alone.

    Returns:
        (H, W, 3) RGB, or (H, W, 1).
    """
    cv2 = require("cv2", extra="track")
    if image.ndim == 2:
        image = image[..., None].repeat(3, -1)
    image = image[..., :3]
    if image.dtype != np.uint8:
        if (image[..., :1] == image).all():
            image = stretch.convert(image[..., 0])[..., None].repeat(3, -1)
        elif image.dtype == np.uint16:
            image = (image // 257).astype(np.uint8)
        else:
            image = np.rint(image.astype(np.float32).clip(0, 1) * 255).astype(np.uint8)
    if gray:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)[..., None]
    return np.ascontiguousarray(image[..., ::-1])
