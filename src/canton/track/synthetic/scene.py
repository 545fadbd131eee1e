"""Synthetic scenes: frames with or without a flying target, and its boxes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from canton.track.boxes import Box, LabelledBox
from canton.track.synthetic.backgrounds import (
    NUM_BACKGROUNDS,
    VISIBLE_SIDE,
    View,
    choose_background,
    thermal_background,
)
from canton.track.synthetic.camera import (
    Camera,
    Pixels,
    expose,
    lens_blur,
    line_noise,
    motion_blur,
    thermal_camera,
    visible_camera,
)
from canton.track.synthetic.camouflage import camouflage_scene
from canton.track.synthetic.colours import thermal_colours, visible_colours
from canton.track.synthetic.meshes import Floats
from canton.track.synthetic.motion import drift, random_walk, velocities
from canton.track.synthetic.noise import Rng
from canton.track.synthetic.targets import CLASSES
from canton.track.synthetic.thermal import text_overlay
from canton.track.synthetic.trajectories import MovingTarget, make_moving_target, random_trajectory

KINDS = ("article", "camouflage", "thermal", "mixed")
SHARES = (0.45, 0.15, 0.4)
"""Shares of the first three kinds among mixed scenes."""
TARGETS = tuple(name for name, _ in CLASSES)
THERMAL_SPEED = {"drone": (0.2, 5.0), "bird": (0.2, 14.0), "airplane": (0.1, 8.0), "helicopter": (0.1, 8.0)}
"""Speed in px per frame at 10 frames/s and a width of 320 px, as in Svanström et al. 2021's labels."""
THERMAL_SIZE = {"drone": (5.0, 26.0), "bird": (2.5, 12.0), "airplane": (3.0, 18.0), "helicopter": (4.0, 34.0)}
"""Longer side in px at a width of 320 px."""
ROLL = 0.005
"""Standard deviation of the camera's roll from frame to frame, in rad: 0.3 px at 60 px from the centre."""


class Scene(NamedTuple):
    """A synthetic scene with its labels.

    Attributes:
        frames: (T, H, W, 3) uint8 RGB.
        centres: (T, 2) x, y of the target in px; NaN where it is not visible.
        boxes: (T, 4) x, y, width, height of the target in px; NaN where it is not visible.
        present: whether the target is visible in any frame.
        kind: "article", "camouflage" or "thermal".
        distractors: the boxes of the other flying objects of every frame.
    """

    frames: NDArray[np.uint8]
    centres: NDArray[np.float32]
    boxes: NDArray[np.float32]
    present: bool
    kind: str
    distractors: tuple[tuple[LabelledBox, ...], ...]

    def labelled_boxes(self, target_class: str) -> list[list[LabelledBox]]:
        """Return all boxes of every frame. The target's comes first, with the class `target_class`."""
        boxes = [Box(*box) for box in self.boxes.tolist()]
        targets = [[LabelledBox(target_class, box)] if math.isfinite(box.x) else [] for box in boxes]
        return [[*target, *rest] for target, rest in zip(targets, self.distractors, strict=True)]


def make_scene(
    seed: int,
    *,
    frames: int = 8,
    size: int | tuple[int, int] = 128,
    kind: str = "mixed",
    backgrounds: Path | None = None,
    target_class: str = "drone",
    present: bool | None = None,
) -> Scene:
    """Generate a scene. The same arguments give the same scene.

    Args:
        seed: >= 0.
        frames: number of frames, >= 1.
        size: side in px, or (height, width); each 32 to 2048.
        kind: "article": objects in front of daylight backgrounds. "thermal": the view of a thermal camera.
            "camouflage": a texture that moves in front of the same kind of texture, so that no single frame
            shows it. "mixed": one of the three at random.
        backgrounds: folder of photographs for article scenes. None: generated backgrounds.
        target_class: "drone", "bird", "airplane" or "helicopter". The other three are distractors in some
            scenes. A camouflage scene has a target without a typical shape.
        present: whether the target is there. None: at random, in half of the scenes.

    Raises:
        ValueError: an argument is out of range.
        UserError: the folder has no images.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if seed < 0:
        raise ValueError(f"seed must be >= 0, got {seed}")
    if frames < 1:
        raise ValueError(f"frames must be >= 1, got {frames}")
    if not (32 <= height <= 2048 and 32 <= width <= 2048):
        raise ValueError(f"size must be 32 to 2048 px, got {size}")
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if target_class not in TARGETS:
        raise ValueError(f"target_class must be one of {', '.join(TARGETS)}, got {target_class!r}")
    if backgrounds is not None and kind in ("camouflage", "thermal"):
        raise ValueError(f"backgrounds must be omitted for kind {kind}, got {backgrounds}")
    rng = np.random.default_rng([seed, 4])
    has_target = bool(rng.random() < 0.5) if present is None else present
    if kind == "mixed":
        kind = KINDS[rng.choice(3, p=SHARES)]
    if kind == "camouflage":
        pixels, boxes = camouflage_scene(rng, frames, height, width, present=has_target)
        return _scene(pixels, kind, boxes, [[] for _ in range(frames)])
    if kind == "thermal":
        background, camera, objects = _thermal(rng, frames, height, width, target_class)
    else:
        background, camera, objects = _visible(rng, frames, height, width, target_class, backgrounds)
    pixels, boxes, distractors = _render(rng, background, camera, objects, has_target)
    return _scene(pixels, kind, boxes, distractors)


class _Background(NamedTuple):
    """The backgrounds of a scene.

    Attributes:
        images: one per frame, to draw on.
        overlay: opacity of the camera's text; None without text.
        line_noise: fixed pattern of rows and columns; None without it.
    """

    images: list[Pixels]
    overlay: Floats | None
    line_noise: Floats | None


def _visible(
    rng: Rng, frames: int, height: int, width: int, target_class: str, folder: Path | None
) -> tuple[_Background, Camera, list[MovingTarget]]:
    unit = min(height, width) / 128
    camera = visible_camera(rng)
    speed, shake = _log_uniform(rng, 0.1, 4.0) * unit, rng.choice([0.0, 0.0, 0.5, 1.5])
    path = random_walk(rng, frames, speed=speed, shake=shake)
    if rng.random() < 0.15:
        path[:] = 0
    image = choose_background(rng, folder)
    zoom = (
        unit * 128 / VISIBLE_SIDE * _log_uniform(rng, 1.1, 4.0)
        if folder is None
        else _log_uniform(rng, 0.5, 1.5)
    )
    roll = ROLL if path.any() else 0.0
    background = _render_background(rng, image, path, camera, height, width, zoom, tilt=0.15, roll=roll)
    objects = []
    for name in [target_class, *_random_distractors(rng, target_class)]:
        size_px, speed = _log_uniform(rng, 6, 24) * unit, _log_uniform(rng, 0.2, 6) * unit
        shake = rng.choice([0.0, 0.3])
        path = random_trajectory(rng, frames, width, height, size_px=size_px, speed=speed, shake=shake)
        colours = visible_colours(rng, name, _colour_at(background.images[0], path[0]))
        relief = rng.uniform(0.3, 1)
        objects.append(make_moving_target(rng, name, path, size_px=size_px, colours=colours, relief=relief))
    return background, camera, objects


def _thermal(
    rng: Rng, frames: int, height: int, width: int, target_class: str
) -> tuple[_Background, Camera, list[MovingTarget]]:
    unit = max(1.0, width / 320)
    hard = rng.random() < 0.25
    camera = thermal_camera(rng, hard=hard)
    tripod = rng.random() < 0.75
    if tripod:
        path = random_walk(rng, frames, speed=0.01, shake=rng.uniform(0, 0.15))
    else:
        path = random_walk(rng, frames, speed=_log_uniform(rng, 0.1, 4.0), shake=rng.uniform(0, 0.4))
    image = thermal_background(int(rng.integers(NUM_BACKGROUNDS)))
    zoom = unit * _log_uniform(rng, 0.8, 1.4)
    roll = 0.0 if tripod else ROLL
    background = _render_background(rng, image, path, camera, height, width, zoom, tilt=0.02, roll=roll)
    overlay = text_overlay(rng, width, height)
    background = background._replace(
        overlay=overlay, line_noise=line_noise(rng, height, width, camera.line_noise_sd)
    )
    objects = []
    for name in [target_class, *_random_distractors(rng, target_class)]:
        size_px, speed = (
            _log_uniform(rng, *THERMAL_SIZE[name]) * unit,
            _log_uniform(rng, *THERMAL_SPEED[name]) * unit,
        )
        for _ in range(3):  # prefer the sky: trees can have the temperature of the object
            shake = rng.uniform(0, 0.3)
            path = random_trajectory(rng, frames, width, height, size_px=size_px, speed=speed, shake=shake)
            behind = float(_colour_at(background.images[0], path[0])[0])
            if behind < 140:
                break
        colours = thermal_colours(rng, name, behind, hard=hard)
        bloom_px = rng.uniform(0.3, 1.3) * unit
        objects.append(
            make_moving_target(
                rng, name, path, size_px=size_px, colours=colours, relief=0.15, bloom_px=bloom_px
            )
        )
    return background, camera, objects


def _render_background(
    rng: Rng,
    image: Pixels,
    path: Floats,
    camera: Camera,
    height: int,
    width: int,
    zoom: float,
    tilt: float,
    roll: float,
) -> _Background:
    """Return the background of every frame along the camera's path.

    Args:
        path: (T, 2) x, y in px.
        zoom, tilt: see `View`.
        roll: standard deviation of the roll from frame to frame, in rad.
    """
    reach = np.abs(path).max(0)
    view = View(rng, image, width, height, zoom=zoom, tilt=tilt, reach=(float(reach[0]), float(reach[1])))
    rolls = drift(rng, len(path), start=0, step=roll)
    blur = velocities(path) * np.float32(camera.shutter)
    images = [
        _with_channels(motion_blur(view.at(position, float(angle)), (float(dx), float(dy))))
        for position, angle, (dx, dy) in zip(path, rolls, blur, strict=True)
    ]
    return _Background(images, None, None)


def _render(
    rng: Rng, background: _Background, camera: Camera, objects: list[MovingTarget], has_target: bool
) -> tuple[NDArray[np.uint8], list[Box | None], list[list[LabelledBox]]]:
    """Return the frames, the target's boxes and those of the distractors.

    The first of the objects is the target. It is drawn last, if `has_target`.
    """
    pixels, boxes, distractors = [], [], []
    for t, image in enumerate(background.images):
        found: list[LabelledBox] = []
        for distractor in objects[1:]:
            box = distractor.draw_on(image, t, camera.shutter)
            if box is not None:
                found.append(LabelledBox(distractor.class_name, box))
        boxes.append(objects[0].draw_on(image, t, camera.shutter) if has_target else None)
        distractors.append(found)
        image = _with_channels(lens_blur(image, camera))
        if background.overlay is not None:
            image = np.asarray(image + background.overlay * (np.float32(250) - image), np.uint8)
        pixels.append(expose(rng, image, camera, background.line_noise))
    return np.stack(pixels), boxes, distractors


def _random_distractors(rng: Rng, target_class: str) -> list[str]:
    """Return the classes of the other flying objects of a scene; half of the scenes have none."""
    distractors = [name for name in TARGETS if name != target_class]
    classes = [
        distractors[k] for k in rng.integers(len(distractors), size=rng.choice(3, p=(0.5, 0.35, 0.15)))
    ]
    if "bird" in classes and rng.random() < 0.25:  # birds often fly in groups
        classes += ["bird"] * int(rng.integers(1, 4))
    return classes


def _colour_at(image: Pixels, position: Floats) -> Floats:
    """Return the mean colour (channels,) of the background near a position."""
    height, width = image.shape[:2]
    x, y = int(np.clip(position[0], 0, width - 1)), int(np.clip(position[1], 0, height - 1))
    near = image[max(y - 6, 0) : y + 7, max(x - 6, 0) : x + 7]
    return np.asarray(near.mean((0, 1)), np.float32)


def _with_channels(image: Pixels | Floats) -> Pixels:
    """Restore the axis that OpenCV drops for a single channel."""
    return np.asarray(image if image.ndim == 3 else image[..., None], np.uint8)


def _log_uniform(rng: Rng, low: float, high: float) -> float:
    """Return a number with a uniform logarithm."""
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def _scene(
    pixels: NDArray[np.uint8],
    kind: str,
    boxes: list[Box | None],
    distractors: list[list[LabelledBox]],
) -> Scene:
    none = Box(math.nan, math.nan, math.nan, math.nan)
    array = np.array([box or none for box in boxes], np.float32)
    centres = np.asarray(array[:, :2] + array[:, 2:] / 2, np.float32)
    return Scene(
        pixels,
        centres,
        array,
        any(box is not None for box in boxes),
        kind,
        tuple(tuple(found) for found in distractors),
    )
