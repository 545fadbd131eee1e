"""What is behind: pictures made up, or cut from a folder of the user's photographs; kept once made."""

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
from canton.track.synthetic.noise import Draw
from canton.track.synthetic.skies import landscape, sky
from canton.track.synthetic.thermal import cold_sky

if TYPE_CHECKING:
    import cv2
else:
    cv2 = require("cv2", extra="track")

Pixels = NDArray[np.uint8]
SIDE = 384
"""px of a made background for visible light."""
HEAT_WIDTH, HEAT_HEIGHT = 512, 400
KEPT = 192
"""How many backgrounds of each sort there are; a scene shows a piece of one, turned, mirrored and scaled."""
PHOTO_SIDE = 1024
"""Photographs are read no larger, in px of the shorter side."""
PHOTOS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
MAKERS: tuple[Callable[[Draw, int], Floats], ...] = (
    sky,
    sky,
    landscape,
    landscape,
    facade,
    grass,
    trees,
    clutter,
)


@lru_cache(KEPT)
def made(k: int) -> Pixels:
    """The k-th background for visible light, (SIDE, SIDE, 3)."""
    draw = np.random.default_rng([k, 1])
    return _rounded(MAKERS[k % len(MAKERS)](draw, SIDE))


@lru_cache(KEPT)
def heat(k: int) -> Pixels:
    """The k-th background as a thermal camera sees it, (HEAT_HEIGHT, HEAT_WIDTH, 1)."""
    return _rounded(cold_sky(np.random.default_rng([k, 2]), HEAT_WIDTH, HEAT_HEIGHT))


def _rounded(picture: Floats) -> Pixels:
    return np.ascontiguousarray((picture + np.float32(0.5)).clip(0, 255).astype(np.uint8))


@lru_cache(8)
def photographs(folder: Path) -> tuple[Path, ...]:
    """The pictures in `folder` and the folders in it.

    Raises: UserError for no folder, or one without pictures.
    """
    if not folder.is_dir():
        raise UserError(f"cannot read backgrounds from {folder}: it is no folder")
    found = tuple(sorted(path for path in folder.rglob("*") if path.suffix.lower() in PHOTOS))
    if not found:
        raise UserError(f"{folder} holds no pictures for backgrounds: {', '.join(PHOTOS)}")
    return found


@lru_cache(KEPT)
def photograph(path: Path) -> Pixels:
    """A photograph, (height, width, 3).

    Raises: UserError if it cannot be read.
    """
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if picture is None:
        raise UserError(f"{path} is no picture that can be read: mend it or take it out of the folder")
    share = PHOTO_SIDE / min(picture.shape[:2])
    if share < 1:
        picture = cv2.resize(picture, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(picture, np.uint8)


def choose(draw: Draw, folder: Path | None) -> Pixels:
    """One of the backgrounds for visible light: a photograph, if there is a folder of them."""
    if folder is None:
        return made(int(draw.integers(KEPT)))
    paths = photographs(folder)
    return photograph(paths[int(draw.integers(len(paths)))])


class View:
    """How a camera sees a background: a piece of it, scaled and turned by chance, that moves with the camera.

    Args:
        zoom: px of the picture to a px of the background.
        tilt: standard deviation of the turn, in radians.
        reach: px to every side that the camera will go; the piece lies so that they are there, too.
    """

    def __init__(
        self,
        draw: Draw,
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
        angle = draw.normal(0, tilt)
        mirrored = -1.0 if draw.random() < 0.5 else 1.0
        cosine, sine = math.cos(angle) / zoom, math.sin(angle) / zoom
        self._turn = np.array([[mirrored * cosine, -mirrored * sine], [sine, cosine]])
        room = [
            max(0.0, columns / 2 - (width / 2 + reach[0]) / zoom),
            max(0.0, rows / 2 - (height / 2 + reach[1]) / zoom),
        ]
        self._middle = np.array(
            [columns / 2 + draw.uniform(-room[0], room[0]), rows / 2 + draw.uniform(-room[1], room[1])]
        )

    def at(self, camera: Floats, roll: float) -> Pixels:
        """The picture when the camera has moved by `camera` px and rolled by `roll` radians."""
        c, s = math.cos(roll), math.sin(roll)
        turn = self._turn @ np.array([[c, -s], [s, c]])
        shift = self._middle - turn @ np.array([self.width / 2 - camera[0], self.height / 2 - camera[1]])
        # OpenCV counts from the middle of a px, at both ends
        matrix = np.column_stack([turn, shift + turn @ (0.5, 0.5) - 0.5])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        size = (self.width, self.height)
        seen = cv2.warpAffine(
            self.background, matrix, size, flags=flags, borderMode=cv2.BORDER_REFLECT_101
        ).reshape(self.height, self.width, -1)
        return np.asarray(seen, np.uint8)
