"""Backgrounds: generated, or crops of the user's photographs; cached in memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from canton.errors import UserError, require
from canton.track.synthetic.landscapes import clutter, facade, grass, trees
from canton.track.synthetic.meshes import Floats
from canton.track.synthetic.noise import Rng
from canton.track.synthetic.skies import landscape, sky
from canton.track.synthetic.thermal import thermal_sky

if TYPE_CHECKING:
    import cv2
else:
    cv2 = require("cv2", extra="track")

Pixels = NDArray[np.uint8]
VISIBLE_SIDE = 384
"""Side of a generated background for visible light, in px."""
THERMAL_WIDTH, THERMAL_HEIGHT = 512, 400
NUM_BACKGROUNDS = 192
"""Backgrounds per kind. A scene shows a crop of one, rotated, flipped and scaled."""
PHOTO_SIDE = 1024
"""Larger photographs are reduced to this shorter side, in px."""
PHOTOS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
GENERATORS: tuple[Callable[[Rng, int], Floats], ...] = (
    sky,
    sky,
    landscape,
    landscape,
    facade,
    grass,
    trees,
    clutter,
)


@lru_cache(NUM_BACKGROUNDS)
def visible_background(k: int) -> Pixels:
    """Return the k-th background for visible light, (VISIBLE_SIDE, VISIBLE_SIDE, 3)."""
    rng = np.random.default_rng([k, 1])
    return _rounded(GENERATORS[k % len(GENERATORS)](rng, VISIBLE_SIDE))


@lru_cache(NUM_BACKGROUNDS)
def thermal_background(k: int) -> Pixels:
    """Return the k-th thermal background, (THERMAL_HEIGHT, THERMAL_WIDTH, 1)."""
    return _rounded(thermal_sky(np.random.default_rng([k, 2]), THERMAL_WIDTH, THERMAL_HEIGHT))


def _rounded(image: Floats) -> Pixels:
    return np.ascontiguousarray((image + np.float32(0.5)).clip(0, 255).astype(np.uint8))


@lru_cache(8)
def photographs(folder: Path) -> tuple[Path, ...]:
    """Return the images in a folder and its subfolders.

    Raises:
        UserError: it is no folder, or has no images.
    """
    if not folder.is_dir():
        raise UserError(f"cannot read backgrounds from {folder}: not a folder")
    found = tuple(sorted(path for path in folder.rglob("*") if path.suffix.lower() in PHOTOS))
    if not found:
        raise UserError(f"backgrounds must have images ({', '.join(PHOTOS)}), got {folder} without any")
    return found


@lru_cache(NUM_BACKGROUNDS)
def photograph(path: Path) -> Pixels:
    """Return a photograph, (height, width, 3).

    Raises:
        UserError: it cannot be read.
    """
    image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise UserError(f"cannot read the image {path}: repair or remove it")
    share = PHOTO_SIDE / min(image.shape[:2])
    if share < 1:
        image = cv2.resize(image, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(image, np.uint8)


def choose_background(rng: Rng, folder: Path | None) -> Pixels:
    """Return a random background for visible light: a photograph if a folder is given."""
    if folder is None:
        return visible_background(int(rng.integers(NUM_BACKGROUNDS)))
    paths = photographs(folder)
    return photograph(paths[int(rng.integers(len(paths)))])


class View:
    """A camera's view of a background: a random crop, scaled and rotated, that moves with the camera.

    Args:
        zoom: image pixels per background pixel.
        tilt: standard deviation of the rotation, in rad.
        reach: px in x and y that the camera will move; the crop leaves room for it.
    """

    def __init__(
        self,
        rng: Rng,
        background: Pixels,
        width: int,
        height: int,
        *,
        zoom: float,
        tilt: float,
        reach: tuple[float, float],
    ) -> None:
        self.background, self.width, self.height = background, width, height
        rows, columns = background.shape[:2]
        zoom = max(zoom, 1.02 * width / columns, 1.02 * height / rows)
        angle = rng.normal(0, tilt)
        mirrored = -1.0 if rng.random() < 0.5 else 1.0
        cosine, sine = math.cos(angle) / zoom, math.sin(angle) / zoom
        self._turn = np.array([[mirrored * cosine, -mirrored * sine], [sine, cosine]])
        margin = [
            max(0.0, columns / 2 - (width / 2 + reach[0]) / zoom),
            max(0.0, rows / 2 - (height / 2 + reach[1]) / zoom),
        ]
        self._middle = np.array(
            [columns / 2 + rng.uniform(-margin[0], margin[0]), rows / 2 + rng.uniform(-margin[1], margin[1])]
        )

    def at(self, camera: Floats, roll: float) -> Pixels:
        """Return the image after the camera moved by `camera` px and rolled by `roll` rad."""
        c, s = math.cos(roll), math.sin(roll)
        turn = self._turn @ np.array([[c, -s], [s, c]])
        shift = self._middle - turn @ np.array([self.width / 2 - camera[0], self.height / 2 - camera[1]])
        # OpenCV's coordinates are of pixel centres
        matrix = np.column_stack([turn, shift + turn @ (0.5, 0.5) - 0.5])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        size = (self.width, self.height)
        view = cv2.warpAffine(
            self.background, matrix, size, flags=flags, borderMode=cv2.BORDER_REFLECT_101
        ).reshape(self.height, self.width, -1)
        return np.asarray(view, np.uint8)
