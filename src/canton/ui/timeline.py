"""Timeline of a tracked video as HTML: the score curve, and a lane for each track.

Lines and areas are stretched SVG; words are HTML over it, so that they stay readable on a telephone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from canton.track.pipeline import FrameResult
from canton.track.render.overlay import track_colour

LANES = 8
"""Tracks with a lane of their own: the longest ones."""
POINTS = 600
"""Of the curve; with more frames, the maximum of several is one point."""

BLANK = (
    '<div class="timeline blank"><div class="score"><svg viewBox="0 0 1000 100"></svg>'
    '<b class="name">score</b></div><div class="ticks"><span style="left:0">0 s</span></div></div>'
)
"""An empty timeline of the same height."""


class Moment(NamedTuple):
    """One frame on the timeline. seconds: since the first frame. ids: of its tracks."""

    seconds: float
    score: float
    ids: tuple[int, ...]
    cut: bool


def to_moment(result: FrameResult) -> Moment:
    """Return the moment of a result."""
    frame = result.frame
    return Moment(
        frame.seconds,
        result.max_score,
        tuple(track.id for track in result.tracks),
        frame.cut and frame.index > 0,
    )


def timeline_html(moments: Sequence[Moment], *, threshold: float, until: float) -> str:
    """Return the timeline as HTML. until: least end of the time axis, in seconds."""
    last = max(until, moments[-1].seconds if moments else 0.0, 1e-3)
    curve = [(x, 100 * (1 - score)) for x, score in _curve(moments, last)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in curve)
    area = f"{curve[0][0]:.1f},100 {line} {curve[-1][0]:.1f},100" if curve else ""
    level = 100 * (1 - threshold)
    cuts = "".join(
        f'<line class="cut" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="100"/>'
        for x in (1000 * m.seconds / last for m in moments if m.cut)
    )
    ticks = "".join(
        f'<span style="left:{100 * second / last:.2f}%">{_clock(second)}</span>' for second in _ticks(last)
    )
    return (
        f'<div class="timeline" data-seconds="{last:.4f}">'
        '<div class="score"><svg viewBox="0 0 1000 100" preserveAspectRatio="none" role="img" '
        'aria-label="score over time">'
        '<defs><linearGradient id="embers" x1="0" x2="0" y1="0" y2="100" gradientUnits="userSpaceOnUse">'
        '<stop offset="0" stop-color="#fca50a"/><stop offset=".55" stop-color="#bb3754"/>'
        '<stop offset="1" stop-color="#420a68"/></linearGradient></defs>'
        f'<polygon points="{area}" fill="url(#embers)" opacity=".35"/>{cuts}'
        f'<line class="threshold" x1="0" x2="1000" y1="{level:.1f}" y2="{level:.1f}"/>'
        f'<polyline points="{line}" stroke="url(#embers)"/></svg>'
        f'<b class="name">score</b>'
        f'<em style="top:{max(level, 22):.1f}%">threshold {threshold:.2f}</em></div>'
        f'{_lanes(moments, last)}<div class="ticks">{ticks}</div><div class="now"></div></div>'
    )


def _curve(moments: Sequence[Moment], last: float) -> list[tuple[float, float]]:
    """Return points (x in [0, 1000], score)."""
    every = -(-len(moments) // POINTS) or 1
    groups = (moments[k : k + every] for k in range(0, len(moments), every))
    highest = (max(group, key=lambda m: m.score) for group in groups)
    return [(1000 * m.seconds / last, m.score) for m in highest]


def _lanes(moments: Sequence[Moment], last: float) -> str:
    """Return a lane for each track: when it was visible."""
    frames: dict[int, list[int]] = {}
    for index, m in enumerate(moments):
        for number in m.ids:
            frames.setdefault(number, []).append(index)
    longest = sorted(frames, key=lambda number: -len(frames[number]))[:LANES]
    rows = []
    for number in sorted(longest):
        colour = "#{:02x}{:02x}{:02x}".format(*track_colour(number))
        bars = []
        for start, stop in _runs(frames[number]):
            begin = moments[start].seconds
            end = moments[stop + 1].seconds if stop + 1 < len(moments) else moments[stop].seconds
            left, wide = 100 * begin / last, max(100 * (end - begin) / last, 0.3)
            bars.append(f'<s style="left:{left:.2f}%;width:{wide:.2f}%;background:{colour}"></s>')
        label = 100 * moments[frames[number][0]].seconds / last
        rows.append(f'<div class="lane">{"".join(bars)}<b style="left:{label:.2f}%">{number}</b></div>')
    more = len(frames) - len(longest)
    tail = f'<p class="more">and {more} shorter tracks</p>' if more else ""
    return "".join(rows) + tail


def _runs(indices: list[int]) -> list[tuple[int, int]]:
    """Return first and last of each run of consecutive indices."""
    runs = [(indices[0], indices[0])]
    for index in indices[1:]:
        if index == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], index)
        else:
            runs.append((index, index))
    return runs


def _ticks(last: float) -> list[float]:
    """Return about five round times, in seconds."""
    step = next((s for s in (0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120) if last / s <= 6), 300)
    return [k * step for k in range(int(last * 0.97 / step) + 1)]


def _clock(seconds: float) -> str:
    return f"{int(seconds // 60)}:{seconds % 60:02.0f}" if seconds >= 60 else f"{seconds:g} s"
