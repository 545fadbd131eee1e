"""What was believed along a video, and which thing was seen when, as a drawing that fits any width.

Lines and areas are SVG, stretched; words are HTML over it, so that they stay readable on a telephone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from canton.track.pipeline import FrameResult
from canton.track.render.overlay import track_colour

LANES = 8
"""Tracks that get a line of their own: those seen longest."""
POINTS = 600
"""Of the curve; where there are more frames, the highest of some stands for them."""

BLANK = (
    '<div class="timeline blank"><div class="belief"><svg viewBox="0 0 1000 100"></svg>'
    '<b class="name">belief</b></div><div class="ticks"><span style="left:0">0 s</span></div></div>'
)
"""Where there is nothing to show yet, as tall as where there is."""


class Moment(NamedTuple):
    """What the timeline keeps of a frame. seconds: since the first. ids: of the tracks seen."""

    seconds: float
    belief: float
    ids: tuple[int, ...]
    cut: bool


def moment(result: FrameResult) -> Moment:
    """What the timeline keeps of a result."""
    frame = result.frame
    return Moment(
        frame.seconds,
        result.max_score,
        tuple(track.id for track in result.tracks),
        frame.cut and frame.index > 0,
    )


def draw(moments: Sequence[Moment], *, threshold: float, until: float) -> str:
    """The timeline as HTML. until: seconds, where its right edge lies at least."""
    last = max(until, moments[-1].seconds if moments else 0.0, 1e-3)
    curve = [(x, 100 * (1 - belief)) for x, belief in _curve(moments, last)]
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
        '<div class="belief"><svg viewBox="0 0 1000 100" preserveAspectRatio="none" role="img" '
        'aria-label="belief over time">'
        '<defs><linearGradient id="embers" x1="0" x2="0" y1="0" y2="100" gradientUnits="userSpaceOnUse">'
        '<stop offset="0" stop-color="#fca50a"/><stop offset=".55" stop-color="#bb3754"/>'
        '<stop offset="1" stop-color="#420a68"/></linearGradient></defs>'
        f'<polygon points="{area}" fill="url(#embers)" opacity=".35"/>{cuts}'
        f'<line class="threshold" x1="0" x2="1000" y1="{level:.1f}" y2="{level:.1f}"/>'
        f'<polyline points="{line}" stroke="url(#embers)"/></svg>'
        f'<b class="name">belief</b>'
        f'<em style="top:{max(level, 22):.1f}%">threshold {threshold:.2f}</em></div>'
        f'{_lanes(moments, last)}<div class="ticks">{ticks}</div><div class="now"></div></div>'
    )


def _curve(moments: Sequence[Moment], last: float) -> list[tuple[float, float]]:
    """x from 0 to 1000, and belief."""
    every = -(-len(moments) // POINTS) or 1
    groups = (moments[k : k + every] for k in range(0, len(moments), every))
    highest = (max(group, key=lambda m: m.belief) for group in groups)
    return [(1000 * m.seconds / last, m.belief) for m in highest]


def _lanes(moments: Sequence[Moment], last: float) -> str:
    """A row for each track: where it was seen."""
    seen: dict[int, list[int]] = {}
    for index, m in enumerate(moments):
        for number in m.ids:
            seen.setdefault(number, []).append(index)
    longest = sorted(seen, key=lambda number: -len(seen[number]))[:LANES]
    rows = []
    for number in sorted(longest):
        colour = "#{:02x}{:02x}{:02x}".format(*track_colour(number))
        bars = []
        for start, stop in _stretches(seen[number]):
            begin = moments[start].seconds
            end = moments[stop + 1].seconds if stop + 1 < len(moments) else moments[stop].seconds
            left, wide = 100 * begin / last, max(100 * (end - begin) / last, 0.3)
            bars.append(f'<s style="left:{left:.2f}%;width:{wide:.2f}%;background:{colour}"></s>')
        label = 100 * moments[seen[number][0]].seconds / last
        rows.append(f'<div class="lane">{"".join(bars)}<b style="left:{label:.2f}%">{number}</b></div>')
    more = len(seen) - len(longest)
    tail = f'<p class="more">and {more} more, seen for less time</p>' if more else ""
    return "".join(rows) + tail


def _stretches(indices: list[int]) -> list[tuple[int, int]]:
    """First and last of each run of neighbours."""
    runs = [(indices[0], indices[0])]
    for index in indices[1:]:
        if index == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], index)
        else:
            runs.append((index, index))
    return runs


def _ticks(last: float) -> list[float]:
    """Round times, about five of them."""
    step = next((s for s in (0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120) if last / s <= 6), 300)
    return [k * step for k in range(int(last * 0.97 / step) + 1)]


def _clock(seconds: float) -> str:
    return f"{int(seconds // 60)}:{seconds % 60:02.0f}" if seconds >= 60 else f"{seconds:g} s"
