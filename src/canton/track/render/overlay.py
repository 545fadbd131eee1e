"""What was seen, drawn over the frame: heat as a glow, a trail, the corners of a box, number and score."""

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

WIDE = 960
"""px: a narrower video is drawn a whole number of times larger, so that a thing of ten pixels is seen."""
TRAIL_SECONDS = 1.5
GLOW = 0.5
"""How much of the picture the hottest heat covers: the thing itself has to stay in sight."""
LEAST_GLOW = 0.05
"""Heat below this is not drawn."""
FIRST_HUE, NEXT_HUE = 0.47, 0.382
"""Colours of tracks: turquoise first, then on by the golden section, so that neighbours differ."""
INK = (12, 12, 16)
PAPER = (255, 255, 255)

Picture = NDArray[np.uint8]
Point = tuple[float, float]


def upscale_factor(width: int) -> int:
    """How many times larger a video of this width is drawn: 320 -> 3, 640 -> 2, 1280 -> 1."""
    return max(1, math.ceil(WIDE / width))


class OverlayRenderer:
    """Draws results, one after the other; it remembers the trails, and no more of them than is shown.

    width, height: of the video's frames, px. stride, offset: of the network, where a cell of heat lies in the
    frame. fps: frames a second, for the length of the trails.
    """

    def __init__(self, width: int, height: int, *, stride: float, offset: float, fps: float) -> None:
        self.scale = upscale_factor(width)
        self.width, self.height = width * self.scale, height * self.scale
        self._stride, self._offset = stride, offset
        self._length = max(2, round(TRAIL_SECONDS * fps))
        self._trails: dict[int, deque[tuple[int, Point]]] = {}
        self._clock = 0

    def draw(self, result: FrameResult) -> Picture:
        """The frame with everything on it, (height, width, 3) uint8 RGB; the frame itself stays as it is."""
        self._clock += 1
        self._follow(result)
        size = (self.width, self.height)
        picture = np.asarray(cv2.resize(result.frame.pixels, size, interpolation=cv2.INTER_CUBIC), np.uint8)
        self._glow(picture, result.heatmap)
        boxes = {track.id: track.box for track in result.tracks}
        for number, trail in self._trails.items():
            self._trail(picture, number, trail, boxes.get(number))
        for track in result.tracks:
            self._corners(picture, track)
        for track in result.tracks:  # over every box
            self._label(picture, track)
        self._untracked(picture, result)
        self._footer(picture, result)
        return picture

    def _follow(self, result: FrameResult) -> None:
        if result.frame.cut:
            self._trails.clear()
        for track in result.tracks:
            trail = self._trails.setdefault(track.id, deque(maxlen=self._length))
            trail.append((self._clock, self._place(track.box.centre)))
        for trail in self._trails.values():
            while trail and trail[0][0] <= self._clock - self._length:
                trail.popleft()
        self._trails = {number: trail for number, trail in self._trails.items() if trail}

    def _place(self, point: Point) -> Point:
        """From px of the frame, whose first reaches from 0 to 1, to the picture, whose first is at 0."""
        x, y = point
        return x * self.scale - 0.5, y * self.scale - 0.5

    def _glow(self, picture: Picture, heat: NDArray[np.float32]) -> None:
        """Only around the cells that glow: most frames have few, and most pixels none."""
        column, row, wide, high = cv2.boundingRect((heat > LEAST_GLOW).astype(np.uint8))
        if not wide:
            return
        step = self._stride * self.scale
        x, y = self._place((self._offset, self._offset))
        left, top = (max(0, int(edge)) for edge in (x + step * (column - 1), y + step * (row - 1)))
        right, bottom = (math.ceil(e) for e in (x + step * (column + wide), y + step * (row + high)))
        part = picture[top : bottom + 1, left : right + 1]
        if not part.size:
            return
        place = np.array([[step, 0, x - left], [0, step, y - top]])
        spread = cv2.warpAffine(heat, place, (part.shape[1], part.shape[0]), flags=cv2.INTER_LINEAR)
        level = (spread * 255).clip(0, 255).astype(np.uint8)
        cover = _cover()[level][..., None]
        part[:] = part * (1 - cover) + _embers()[level] * cover

    def _trail(self, picture: Picture, number: int, trail: deque[tuple[int, Point]], box: Box | None) -> None:
        """Thin and dark where it is old; straight over the frames in which the thing was not seen. It ends at
        the box, so that it does not cover the thing.
        """
        colour = track_colour(number)
        for (_, start), (when, end) in pairwise(trail):
            if box is not None:
                if self._inside(start, box):
                    continue
                while self._inside(end, box):  # halve the way until it is outside: a few times at most
                    end = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
            fresh = 1 - (self._clock - when) / self._length
            shade = tuple(int(c * (0.35 + 0.65 * fresh)) for c in colour)
            thick = max(1, round(fresh * self._line))
            cv2.line(picture, _fixed(start), _fixed(end), shade, thick, cv2.LINE_AA, SHIFT)

    def _inside(self, point: Point, box: Box) -> bool:
        left, top = self._place((box.x, box.y))
        return (
            0 <= point[0] - left <= box.width * self.scale and 0 <= point[1] - top <= box.height * self.scale
        )

    @property
    def _line(self) -> int:
        return max(1, round(self.width / 480))

    def _corners(self, picture: Picture, track: Track) -> None:
        x1, y1, x2, y2 = track.box.xyxy
        (left, top), (right, bottom) = self._place((x1, y1)), self._place((x2, y2))
        air = 2.0 * self._line
        left, top, right, bottom = left - air, top - air, right + air, bottom + air
        arm = max(4.0, 0.28 * min(right - left, bottom - top))
        lines = [
            np.array(
                [_fixed((x, y + up * arm)), _fixed((x, y)), _fixed((x + along * arm, y))], dtype=np.int32
            )
            for x, along in ((left, 1), (right, -1))
            for y, up in ((top, 1), (bottom, -1))
        ]
        cv2.polylines(picture, lines, False, INK, self._line + 2, cv2.LINE_AA, SHIFT)
        cv2.polylines(picture, lines, False, track_colour(track.id), self._line, cv2.LINE_AA, SHIFT)

    def _label(self, picture: Picture, track: Track) -> None:
        """Above the box; below it where there is no room."""
        words = f"{track.id}  {track.score:.2f}"
        wide, high = self._extent(words)
        x, y = self._place((track.box.x, track.box.y))
        bottom = self._place((0, track.box.y + track.box.height))[1]
        gap = 5 * self._line
        above = y - gap - high
        left = int(min(max(x - 2 * self._line, 2), self.width - wide - 2))
        top = int(above if above >= 2 else min(bottom + gap, self.height - high - 2))
        _plate(picture, left, top, wide, high)
        cv2.rectangle(picture, (left, top), (left + 2, top + high - 1), track_colour(track.id), -1)
        self._write(picture, words, left, top, high)

    def _untracked(self, picture: Picture, result: FrameResult) -> None:
        """A small ring around a peak that has no number, as the first of every thing."""
        tracked = [track.box.centre for track in result.tracks]
        for peak in result.peaks:
            if all(math.dist(peak.box.centre, centre) > 0.01 for centre in tracked):
                radius = max(6.0, 0.5 * max(peak.box.width, peak.box.height) * self.scale)
                centre, edge = _fixed(self._place(peak.box.centre)), round(radius * ONE)
                cv2.circle(picture, centre, edge, INK, self._line + 2, cv2.LINE_AA, SHIFT)
                cv2.circle(picture, centre, edge, PAPER, self._line, cv2.LINE_AA, SHIFT)

    def _footer(self, picture: Picture, result: FrameResult) -> None:
        """The time, and as a bar the belief: how hot the hottest cell is."""
        seconds = result.frame.seconds
        words = f"{int(seconds // 60)}:{seconds % 60:04.1f}   belief"
        wide, high = self._extent(words)
        bar = self.width // 8
        left, top = 4, self.height - high - 4
        _plate(picture, left, top, wide + bar + 8, high)
        self._write(picture, words, left, top, high)
        begin, rise = left + wide, high // 3
        trough = picture[top + rise : top + high - rise, begin : begin + bar]
        trough[:] = 60
        trough[:, : round(bar * result.max_score)] = _embers()[90 + int(165 * min(1.0, result.max_score))]

    def _extent(self, words: str) -> tuple[int, int]:
        (wide, high), below = cv2.getTextSize(words, FONT, self._letters, 1)
        return wide + 14, high + below + 6

    def _write(self, picture: Picture, words: str, left: int, top: int, high: int) -> None:
        (_, tall), _ = cv2.getTextSize(words, FONT, self._letters, 1)
        at = (left + 8, top + (high + tall) // 2)
        cv2.putText(picture, words, at, FONT, self._letters, PAPER, 1, cv2.LINE_AA)

    @property
    def _letters(self) -> float:
        return max(0.4, self.width / 1900)


FONT = cv2.FONT_HERSHEY_SIMPLEX
SHIFT = 4
"""Bits of a pixel in which lines are placed: a track drawn on whole pixels trembles."""
ONE = 1 << SHIFT


def _fixed(point: Point) -> tuple[int, int]:
    return round(point[0] * ONE), round(point[1] * ONE)


@lru_cache(maxsize=64)
def track_colour(number: int) -> tuple[int, int, int]:
    """The colour of a track, RGB; the same for the same number."""
    hue = (FIRST_HUE + NEXT_HUE * (number - 1)) % 1
    red, green, blue = colorsys.hls_to_rgb(hue, 0.62, 0.95)
    return int(red * 255), int(green * 255), int(blue * 255)


def _plate(picture: Picture, left: int, top: int, wide: int, high: int) -> None:
    """Darken a rectangle, so that white letters are read on any sky."""
    part = picture[max(top, 0) : top + high, max(left, 0) : left + wide]
    part[:] = part // 4 + np.array(INK, dtype=np.uint8) * 3 // 4


@lru_cache(maxsize=1)
def _embers() -> Picture:
    """256 colours from no heat to the highest, RGB."""
    ramp = np.arange(256, dtype=np.uint8)[:, None]
    return np.ascontiguousarray(cv2.applyColorMap(ramp, cv2.COLORMAP_INFERNO)[:, 0, ::-1])


@lru_cache(maxsize=1)
def _cover() -> NDArray[np.float32]:
    """The share of the picture that each level of heat covers: little until it is believed."""
    level = np.linspace(0, 1, 256, dtype=np.float32)
    return GLOW * level**1.2
