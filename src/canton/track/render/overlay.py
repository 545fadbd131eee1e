"""Annotated frames: heat map, trail, box, id and score."""

from __future__ import annotations

import colorsys
import math
from collections import deque
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from canton.errors import require
from canton.track.boxes import Box
from canton.track.pipeline import FrameResult
from canton.track.tracker import Track

if TYPE_CHECKING:
    import cv2
else:
    cv2 = require("cv2", extra="track")

MIN_WIDTH = 640
"""Width in px. A narrower video is enlarged by an integer factor, so that objects of ten px are visible."""
MAX_WIDTH = 1920
"""Width in px. A wider video is reduced, because encoding costs more than watching it."""
TRAIL_SECONDS = 1.5
MAX_OPACITY = 0.5
"""Opacity of the heat map at score 1, so that the object stays visible."""
MIN_SCORE = 0.05
"""Scores below this are not drawn."""
FIRST_HUE, HUE_STEP = 0.47, 0.382
"""Hues of tracks: turquoise first, then steps of the golden section, so that neighbours differ."""
DARK = (12, 12, 16)
WHITE = (255, 255, 255)
FONT = cv2.FONT_HERSHEY_SIMPLEX
SHIFT = 4
"""Fractional bits of line coordinates: with integer coordinates moving lines jitter."""
ONE = 1 << SHIFT

Image = NDArray[np.uint8]
Point = tuple[float, float]


def scale_factor(width: int) -> float:
    """Return the enlargement of a video of this width: 320 -> 2, 640 -> 1, 3840 -> 0.5."""
    return min(1.0, MAX_WIDTH / width) if width > MIN_WIDTH else float(math.ceil(MIN_WIDTH / width))


class OverlayRenderer:
    """A renderer of results on their frames, in order. It keeps the trails of the last `TRAIL_SECONDS`.

    Args:
        width, height: size of the video in px.
        stride: px of the frame from one heat map cell to the next.
        offset: px of the frame from its edge to the centre of cell (0, 0).
        fps: frames per second, for the length of the trails.
    """

    def __init__(self, width: int, height: int, *, stride: float, offset: float, fps: float) -> None:
        self.scale = scale_factor(width)
        self.width, self.height = round(width * self.scale), max(1, round(height * self.scale))
        self._stride, self._offset = stride, offset
        self._trail_frames = max(2, round(TRAIL_SECONDS * fps))
        self._trails: dict[int, deque[tuple[int, Point]]] = {}
        self._frames = 0
        self._line_width = max(2, round(self.width / 480))
        self._font_scale = max(0.4, self.width / 1900)

    def draw(self, result: FrameResult) -> Image:
        """Return the annotated frame, (height, width, 3) uint8 RGB. The frame itself is not changed."""
        self._frames += 1
        self._update_trails(result)
        size = (self.width, self.height)
        if self.scale == 1:
            image: Image = result.frame.pixels.copy()
        else:
            method = cv2.INTER_CUBIC if self.scale > 1 else cv2.INTER_AREA
            image = np.asarray(cv2.resize(result.frame.pixels, size, interpolation=method), np.uint8)
        self._draw_heatmap(image, result.heatmap)
        boxes = {track.id: track.box for track in result.tracks}
        for track_id, trail in self._trails.items():
            self._draw_trail(image, track_id, trail, boxes.get(track_id))
        for track in result.tracks:
            self._draw_corners(image, track)
        for track in result.tracks:  # above every box
            self._draw_label(image, track)
        self._draw_untracked(image, result)
        self._draw_footer(image, result)
        return image

    def _update_trails(self, result: FrameResult) -> None:
        if result.frame.cut:
            self._trails.clear()
        for track in result.tracks:
            trail = self._trails.setdefault(track.id, deque(maxlen=self._trail_frames))
            trail.append((self._frames, self._to_image(track.box.centre)))
        for trail in self._trails.values():
            while trail and trail[0][0] <= self._frames - self._trail_frames:
                trail.popleft()
        self._trails = {track_id: trail for track_id, trail in self._trails.items() if trail}

    def _to_image(self, point: Point) -> Point:
        """Convert px of the frame, where the first pixel is [0, 1], to the image, where its centre is 0."""
        x, y = point
        return x * self.scale - 0.5, y * self.scale - 0.5

    def _corners(self, box: Box) -> tuple[float, float, float, float]:
        """Return left, top, right and bottom in the image."""
        left, top, right, bottom = box.xyxy
        return *self._to_image((left, top)), *self._to_image((right, bottom))

    def _draw_heatmap(self, image: Image, heatmap: NDArray[np.float32]) -> None:
        """Blend the heat map into the part of the image where it is not zero."""
        column, row, columns, rows = cv2.boundingRect((heatmap > MIN_SCORE).astype(np.uint8))
        if not columns:
            return
        step = self._stride * self.scale
        x, y = self._to_image((self._offset, self._offset))
        left, top = (max(0, int(edge)) for edge in (x + step * (column - 1), y + step * (row - 1)))
        right, bottom = (math.ceil(e) for e in (x + step * (column + columns), y + step * (row + rows)))
        part = image[top : bottom + 1, left : right + 1]
        if not part.size:
            return
        affine = np.array([[step, 0, x - left], [0, step, y - top]])
        resized = cv2.warpAffine(heatmap, affine, (part.shape[1], part.shape[0]), flags=cv2.INTER_LINEAR)
        level = (resized * 255).clip(0, 255).astype(np.uint8)
        opacity = _opacity()[level][..., None]
        part[:] = part * (1 - opacity) + _colour_map()[level] * opacity

    def _draw_trail(
        self, image: Image, track_id: int, trail: deque[tuple[int, Point]], box: Box | None
    ) -> None:
        """Draw a line that gets thinner and darker with age and ends at the box."""
        colour = track_colour(track_id)
        for (_, start), (frame, end) in pairwise(trail):
            if box is not None:
                if self._inside(start, box):
                    continue
                while self._inside(end, box):  # halve the segment until it ends outside
                    end = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
            recency = 1 - (self._frames - frame) / self._trail_frames
            shade = tuple(int(c * (0.35 + 0.65 * recency)) for c in colour)
            line_width = max(1, round(recency * self._line_width))
            cv2.line(image, _fixed(start), _fixed(end), shade, line_width, cv2.LINE_AA, SHIFT)

    def _inside(self, point: Point, box: Box) -> bool:
        left, top = self._to_image((box.x, box.y))
        x, y = point[0] - left, point[1] - top
        return 0 <= x <= box.width * self.scale and 0 <= y <= box.height * self.scale

    def _draw_corners(self, image: Image, track: Track) -> None:
        """Draw the four corners of the box."""
        left, top, right, bottom = self._corners(track.box)
        margin = 2.0 * self._line_width
        left, top, right, bottom = left - margin, top - margin, right + margin, bottom + margin
        arm = max(4.0, 0.28 * min(right - left, bottom - top))
        lines = [
            np.array([_fixed((x, y + dy * arm)), _fixed((x, y)), _fixed((x + dx * arm, y))], dtype=np.int32)
            for x, dx in ((left, 1), (right, -1))
            for y, dy in ((top, 1), (bottom, -1))
        ]
        cv2.polylines(image, lines, False, DARK, self._line_width + 2, cv2.LINE_AA, SHIFT)
        cv2.polylines(image, lines, False, track_colour(track.id), self._line_width, cv2.LINE_AA, SHIFT)

    def _draw_label(self, image: Image, track: Track) -> None:
        """Write id and score above the box, or below it if there is no space."""
        text = f"{track.id}  {track.score:.2f}"
        width, height = self._text_size(text)
        x, y, _, bottom = self._corners(track.box)
        gap = 5 * self._line_width
        above = y - gap - height
        left = int(min(max(x - 2 * self._line_width, 2), self.width - width - 2))
        top = int(above if above >= 2 else min(bottom + gap, self.height - height - 2))
        _darken(image, left, top, width, height)
        cv2.rectangle(image, (left, top), (left + 2, top + height - 1), track_colour(track.id), -1)
        self._write(image, text, left, top, height)

    def _draw_untracked(self, image: Image, result: FrameResult) -> None:
        """Draw a circle around every peak without a track, such as the first of an object."""
        tracked = [track.box.centre for track in result.tracks]
        for peak in result.peaks:
            if all(math.dist(peak.box.centre, centre) > 0.01 for centre in tracked):
                radius = max(6.0, 0.5 * max(peak.box.width, peak.box.height) * self.scale)
                centre, fixed_radius = _fixed(self._to_image(peak.box.centre)), round(radius * ONE)
                cv2.circle(image, centre, fixed_radius, DARK, self._line_width + 2, cv2.LINE_AA, SHIFT)
                cv2.circle(image, centre, fixed_radius, WHITE, self._line_width, cv2.LINE_AA, SHIFT)

    def _draw_footer(self, image: Image, result: FrameResult) -> None:
        """Write the time, and draw the frame's largest score as a bar."""
        seconds = result.frame.seconds
        text = f"{int(seconds // 60)}:{seconds % 60:04.1f}   max score"
        width, height = self._text_size(text)
        bar_width = self.width // 8
        left, top = 4, self.height - height - 4
        _darken(image, left, top, width + bar_width + 8, height)
        self._write(image, text, left, top, height)
        bar_left, third = left + width, height // 3
        bar = image[top + third : top + height - third, bar_left : bar_left + bar_width]
        bar[:] = 60
        colour = _colour_map()[90 + int(165 * min(1.0, result.max_score))]
        bar[:, : round(bar_width * result.max_score)] = colour

    def _text_size(self, text: str) -> tuple[int, int]:
        """Return width and height of a text and its margins."""
        (width, height), baseline = cv2.getTextSize(text, FONT, self._font_scale, 1)
        return width + 14, height + baseline + 6

    def _write(self, image: Image, text: str, left: int, top: int, height: int) -> None:
        (_, text_height), _ = cv2.getTextSize(text, FONT, self._font_scale, 1)
        origin = (left + 8, top + (height + text_height) // 2)
        cv2.putText(image, text, origin, FONT, self._font_scale, WHITE, 1, cv2.LINE_AA)


def fit(image: Image, width: int, height: int) -> Image:
    """Return the image resized to fit into (height, width), centred on black; itself if it fits already."""
    if image.shape[:2] == (height, width):
        return image
    scale = min(width / image.shape[1], height / image.shape[0])
    inner = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    whole = np.zeros((height, width, 3), np.uint8)
    whole[top : top + inner[1], left : left + inner[0]] = cv2.resize(
        image, inner, interpolation=cv2.INTER_AREA
    )
    return whole


def _fixed(point: Point) -> tuple[int, int]:
    """Convert to OpenCV's fixed-point coordinates."""
    return round(point[0] * ONE), round(point[1] * ONE)


@lru_cache(maxsize=64)
def track_colour(track_id: int) -> tuple[int, int, int]:
    """Return the RGB colour of a track id."""
    hue = (FIRST_HUE + HUE_STEP * (track_id - 1)) % 1
    red, green, blue = colorsys.hls_to_rgb(hue, 0.62, 0.95)
    return int(red * 255), int(green * 255), int(blue * 255)


def _darken(image: Image, left: int, top: int, width: int, height: int) -> None:
    """Darken a rectangle, so that white text is legible on it."""
    part = image[max(top, 0) : top + height, max(left, 0) : left + width]
    part[:] = part // 4 + np.array(DARK, dtype=np.uint8) * 3 // 4


@lru_cache(maxsize=1)
def _colour_map() -> Image:
    """Return 256 RGB colours, from score 0 to 1."""
    ramp = np.arange(256, dtype=np.uint8)[:, None]
    return np.ascontiguousarray(cv2.applyColorMap(ramp, cv2.COLORMAP_INFERNO)[:, 0, ::-1])


@lru_cache(maxsize=1)
def _opacity() -> NDArray[np.float32]:
    """Return the opacity of each of the 256 levels."""
    level = np.linspace(0, 1, 256, dtype=np.float32)
    return MAX_OPACITY * level**1.2
