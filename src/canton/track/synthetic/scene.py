"""Made scenes: frames in which something flies, or not, and where it is."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from canton.track.boxes import Box, LabelledBox
from canton.track.synthetic.backgrounds import KEPT, SIDE, View, choose, heat
from canton.track.synthetic.camera import Lens, Pixels, day_lens, develop, heat_lens, lines, smear, soften
from canton.track.synthetic.camouflage import camouflaged
from canton.track.synthetic.colours import day_paint, heat_paint
from canton.track.synthetic.meshes import Floats
from canton.track.synthetic.motion import drift, speeds, walk
from canton.track.synthetic.noise import Draw
from canton.track.synthetic.targets import SORTS
from canton.track.synthetic.thermal import overlay
from canton.track.synthetic.trajectories import Flight, launch, plan

KINDS = ("article", "camouflage", "thermal", "mixed")
SHARES = (0.45, 0.15, 0.4)
"""Of the first three kinds in a mixed lot."""
TARGETS = tuple(name for name, _ in SORTS)
HEAT_SPEED = {"drone": (0.2, 5.0), "bird": (0.2, 14.0), "airplane": (0.1, 8.0), "helicopter": (0.1, 8.0)}
"""px a frame, at 10 frames a second and 320 px width: about what the labels of Svanström et al. 2021 say."""
HEAT_SIZE = {"drone": (5.0, 26.0), "bird": (2.5, 12.0), "airplane": (3.0, 18.0), "helicopter": (4.0, 34.0)}
"""px of the longer side of what glows, at 320 px width."""

ROLL = 0.005
"""rad that the camera rolls from a frame to the next: a tremor, about 0.3 px at 60 px from the middle."""


class Scene(NamedTuple):
    """frames: (T, H, W, 3) RGB. centres: (T, 2) column and row in px, the corner of the picture being 0, 0,
    and boxes: (T, 4) x, y, width, height in px, of the target; NaN where it is not in the picture.
    present: whether it is in any frame. kind: "article", "camouflage" or "thermal". others: for every frame
    what else flies there.
    """

    frames: NDArray[np.uint8]
    centres: NDArray[np.float32]
    boxes: NDArray[np.float32]
    present: bool
    kind: str
    others: tuple[tuple[LabelledBox, ...], ...]

    def things(self, target: str) -> list[list[LabelledBox]]:
        """Return every frame's boxes; that of the target, which gets the class `target`, comes first."""
        boxes = [Box(*box) for box in self.boxes.tolist()]
        own = [[LabelledBox(target, box)] if math.isfinite(box.x) else [] for box in boxes]
        return [[*first, *rest] for first, rest in zip(own, self.others, strict=True)]


def make_scene(
    seed: int,
    *,
    frames: int = 8,
    size: int | tuple[int, int] = 128,
    kind: str = "mixed",
    backgrounds: Path | None = None,
    target: str = "drone",
    present: bool | None = None,
) -> Scene:
    """The scene of a number: the same number gives the same scene, on every machine of a sort.

    Args:
        seed: at least 0.
        frames: how many, at least 1.
        size: px of height and width, or both alike; 32 to 2048 each.
        kind: "article": cut-outs before pictures by daylight. "thermal": as a thermal camera shows it.
            "camouflage": a texture that moves before one just like it, so that no single frame shows it.
            "mixed": one of the three, by chance.
        backgrounds: a folder of photographs for "article" ("mixed" has such scenes too); none: pictures made
            up.
        target: the target, "drone", "bird", "airplane" or "helicopter"; the other three fly in some
            scenes, and are not the target. In camouflage it has no shape to know it by.
        present: whether the target is there; None: in half of the scenes, by chance.

    Raises: ValueError for a value outside these; UserError for a folder without pictures.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if seed < 0:
        raise ValueError(f"seed is {seed}: it is at least 0")
    if frames < 1:
        raise ValueError(f"frames is {frames}: a scene has at least 1")
    if not (32 <= height <= 2048 and 32 <= width <= 2048):
        raise ValueError(f"size is {size}: height and width lie between 32 and 2048 px")
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}: it is one of {', '.join(KINDS)}")
    if target not in TARGETS:
        raise ValueError(f"target is {target!r}: it is one of {', '.join(TARGETS)}")
    if backgrounds is not None and kind in ("camouflage", "thermal"):
        raise ValueError(f"backgrounds is {backgrounds}: photographs are for article or mixed, not {kind}")
    draw = np.random.default_rng([seed, 4])
    there = bool(draw.random() < 0.5) if present is None else present
    if kind == "mixed":
        kind = KINDS[draw.choice(3, p=SHARES)]
    if kind == "camouflage":
        pixels, boxes = camouflaged(draw, frames, height, width, present=there)
        return _scene(pixels, kind, boxes, [[] for _ in range(frames)])
    if kind == "thermal":
        stage, lens, flights = _by_heat(draw, frames, height, width, target)
    else:
        stage, lens, flights = _by_day(draw, frames, height, width, target, backgrounds)
    pixels, boxes, others = _film(draw, stage, lens, flights, there)
    return _scene(pixels, kind, boxes, others)


class _Stage(NamedTuple):
    """pictures: the background as the camera sees it, frame by frame, still to be drawn on. shown: opacity of
    what the camera writes over them. fixed: of rows and columns, see `lines`.
    """

    pictures: list[Pixels]
    shown: Floats | None
    fixed: Floats | None


def _by_day(
    draw: Draw, frames: int, height: int, width: int, target: str, folder: Path | None
) -> tuple[_Stage, Lens, list[Flight]]:
    unit = min(height, width) / 128
    lens = day_lens(draw)
    camera = walk(draw, frames, speed=_log(draw, 0.1, 4.0) * unit, shake=draw.choice([0.0, 0.0, 0.5, 1.5]))
    if draw.random() < 0.15:
        camera[:] = 0
    background = choose(draw, folder)
    zoom = unit * 128 / SIDE * _log(draw, 1.1, 4.0) if folder is None else _log(draw, 0.5, 1.5)
    roll = ROLL if camera.any() else 0.0
    stage = _stage(draw, background, camera, lens, height, width, zoom, tilt=0.15, roll=roll)
    flights = []
    for kind in [target, *_extras(draw, target)]:
        size_px, speed = _log(draw, 6, 24) * unit, _log(draw, 0.2, 6) * unit
        way = plan(draw, frames, width, height, size_px=size_px, speed=speed, shake=draw.choice([0.0, 0.3]))
        paint = day_paint(draw, kind, _behind(stage.pictures[0], way[0]))
        flights.append(launch(draw, kind, way, size_px=size_px, colours=paint, relief=draw.uniform(0.3, 1)))
    return stage, lens, flights


def _by_heat(
    draw: Draw, frames: int, height: int, width: int, target: str
) -> tuple[_Stage, Lens, list[Flight]]:
    unit = max(1.0, width / 320)
    hard = draw.random() < 0.25
    lens = heat_lens(draw, hard=hard)
    tripod = draw.random() < 0.75
    if tripod:
        camera = walk(draw, frames, speed=0.01, shake=draw.uniform(0, 0.15))
    else:
        camera = walk(draw, frames, speed=_log(draw, 0.1, 4.0), shake=draw.uniform(0, 0.4))
    background = heat(int(draw.integers(KEPT)))
    zoom = unit * _log(draw, 0.8, 1.4)
    roll = 0.0 if tripod else ROLL
    stage = _stage(draw, background, camera, lens, height, width, zoom, tilt=0.02, roll=roll)
    stage = stage._replace(
        shown=overlay(draw, width, height), fixed=lines(draw, height, width, lens.lines_sd)
    )
    flights = []
    for kind in [target, *_extras(draw, target)]:
        size_px, speed = _log(draw, *HEAT_SIZE[kind]) * unit, _log(draw, *HEAT_SPEED[kind]) * unit
        for _ in range(3):  # mostly before the sky: what is as hot as a wood before a wood is seen by nobody
            way = plan(draw, frames, width, height, size_px=size_px, speed=speed, shake=draw.uniform(0, 0.3))
            behind = float(_behind(stage.pictures[0], way[0])[0])
            if behind < 140:
                break
        paint = heat_paint(draw, kind, behind, hard=hard)
        bloom_px = draw.uniform(0.3, 1.3) * unit
        flights.append(
            launch(draw, kind, way, size_px=size_px, colours=paint, relief=0.15, bloom_px=bloom_px)
        )
    return stage, lens, flights


def _stage(
    draw: Draw,
    background: Pixels,
    camera: Floats,
    lens: Lens,
    height: int,
    width: int,
    zoom: float,
    tilt: float,
    roll: float,
) -> _Stage:
    """roll: rad from a frame to the next, standard deviation."""
    reach = np.abs(camera).max(0)
    view = View(
        draw, background, width, height, zoom=zoom, tilt=tilt, reach=(float(reach[0]), float(reach[1]))
    )
    rolls = drift(draw, len(camera), start=0, step=roll)
    going = speeds(camera) * np.float32(lens.shutter)
    pictures = [
        _whole(smear(view.at(place, float(turn)), (float(dx), float(dy))))
        for place, turn, (dx, dy) in zip(camera, rolls, going, strict=True)
    ]
    return _Stage(pictures, None, None)


def _film(
    draw: Draw, stage: _Stage, lens: Lens, flights: list[Flight], there: bool
) -> tuple[NDArray[np.uint8], list[Box | None], list[list[LabelledBox]]]:
    """The first of the flights is the target; it is drawn last, and only if it is there."""
    pixels, boxes, others = [], [], []
    for t, picture in enumerate(stage.pictures):
        found: list[LabelledBox] = []
        for flight in flights[1:]:
            box = flight.draw_on(picture, t, lens.shutter)
            if box is not None:
                found.append(LabelledBox(flight.kind, box))
        boxes.append(flights[0].draw_on(picture, t, lens.shutter) if there else None)
        others.append(found)
        picture = _whole(soften(picture, lens))
        if stage.shown is not None:
            picture = np.asarray(picture + stage.shown * (np.float32(250) - picture), np.uint8)
        pixels.append(develop(draw, picture, lens, stage.fixed))
    return np.stack(pixels), boxes, others


def _extras(draw: Draw, target: str) -> list[str]:
    """Kinds of what else flies in a scene: nothing in half of them."""
    others = [kind for kind in TARGETS if kind != target]
    extras = [others[k] for k in draw.integers(len(others), size=draw.choice(3, p=(0.5, 0.35, 0.15)))]
    if "bird" in extras and draw.random() < 0.25:  # seldom alone
        extras += ["bird"] * int(draw.integers(1, 4))
    return extras


def _behind(picture: Pixels, place: Floats) -> Floats:
    """The colour of the background near a place, (channels,)."""
    height, width = picture.shape[:2]
    x, y = int(np.clip(place[0], 0, width - 1)), int(np.clip(place[1], 0, height - 1))
    near = picture[max(y - 6, 0) : y + 7, max(x - 6, 0) : x + 7]
    return np.asarray(near.mean((0, 1)), np.float32)


def _whole(picture: Pixels | Floats) -> Pixels:
    """OpenCV drops the axis of a single channel."""
    return np.asarray(picture if picture.ndim == 3 else picture[..., None], np.uint8)


def _log(draw: Draw, low: float, high: float) -> float:
    """Between `low` and `high`, as often in each doubling."""
    return math.exp(draw.uniform(math.log(low), math.log(high)))


def _scene(
    pixels: NDArray[np.uint8], kind: str, boxes: list[Box | None], others: list[list[LabelledBox]]
) -> Scene:
    none = Box(math.nan, math.nan, math.nan, math.nan)
    corners = np.array([box or none for box in boxes], np.float32)
    centres = np.asarray(corners[:, :2] + corners[:, 2:] / 2, np.float32)
    return Scene(
        pixels,
        centres,
        corners,
        any(box is not None for box in boxes),
        kind,
        tuple(tuple(found) for found in others),
    )
