"""Pictures as a video: a folder, a numbered pattern, or a file with several pages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from canton.errors import UserError, require
from canton.track.video.pixels import CountStretch, picture_to_rgb
from canton.track.video.source import MAX_NOTICES, DecodedFrame, ReadError, ReadOptions, Source

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
PATTERN = re.compile(r"%(0?)(\d*)d")
"""The number in the name of numbered pictures, as FFmpeg writes it: img%05d.png."""
MAX_SPREAD = 100
"""Numbers per picture above which the numbers in the names are no frame numbers, but dates or ids."""
PAGES_AT_ONCE = 8


def image_files(folder: Path) -> list[Path]:
    """Return the images of a folder in natural order: frame 9 before frame 10. Hidden files are left out."""
    return sorted(
        (
            path
            for path in folder.iterdir()
            if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
        ),
        key=natural_order,
    )


def is_pictures(name: str) -> bool:
    """Return whether a source is a folder, a pattern or a file of pictures, which have no frame rate."""
    path = Path(name)
    try:
        return path.is_dir() or _is_pattern(path) or (path.is_file() and _is_image(path))
    except OSError:
        return False


def open_pictures(name: str, options: ReadOptions) -> Source:
    """Open the pictures of a source for which `is_pictures` is true.

    Raises:
        UserError: there are none.
    """
    path = Path(name)
    if path.is_dir():
        paths = image_files(path)
        if not paths:
            raise UserError(f"{path} has no images ({', '.join(suffix[1:] for suffix in IMAGE_SUFFIXES)})")
    elif _is_pattern(path):
        paths = _matching(path)
        if not paths:
            raise UserError(f"cannot read {name}: no picture has such a name")
    else:
        paths = [path]
        if not path.stat().st_size:
            raise UserError(f"cannot read {name}: the file is empty")
    source = Source(iter(()), options.image_fps, len(paths), lambda: None)
    if len(paths) == 1:
        source.frames = _page_count(paths[0])
    source.decoded = _decode(paths, source, options)
    return source


def frame_numbers(names: Sequence[str]) -> list[int]:
    """Return the frame number of each picture, from 0 for the first.

    Names that differ in one increasing number give it. Other names, and numbers that are too far apart to
    count frames, give the position.
    """
    parts = [re.fullmatch(r"(.*?)(\d+)(\D*)", name) for name in names]
    numbers = [int(part[2]) for part in parts if part]
    forms = {(part[1], part[3].lower()) for part in parts if part}
    increasing = all(one < other for one, other in pairwise(numbers))
    if len(numbers) == len(names) and len(forms) == 1 and increasing:
        numbers = [number - numbers[0] for number in numbers]
        if numbers[-1] <= MAX_SPREAD * len(numbers):
            return numbers
    return list(range(len(names)))


def _decode(paths: Sequence[Path], source: Source, options: ReadOptions) -> Iterator[DecodedFrame]:
    stretch, last = CountStretch(), -1
    for number, path in zip(frame_numbers([path.name for path in paths]), paths, strict=True):
        try:
            for image, seconds in _pages(path):
                last = max(last + 1, number)
                yield DecodedFrame(
                    last / options.image_fps if seconds is None else seconds,
                    (image.shape[1], image.shape[0]),
                    partial(picture_to_rgb, image, stretch),
                    index=last,
                    name=path.name,
                )
        except ReadError as error:  # noqa: PERF203
            if len(paths) == 1:
                raise
            source.damaged += 1
            if source.damaged <= MAX_NOTICES:
                options.report(f"skipped {path}: {error}")


def _pages(path: Path) -> Iterator[tuple[NDArray[Any], float | None]]:
    """Yield every page of a picture, and its time in s where the file states one.

    Raises:
        ReadError: the file cannot be read.
    """
    cv2 = require("cv2", extra="track")
    suffix = path.suffix.lower()
    try:
        if suffix == ".webp":
            yield from _animation(cv2, path)
        elif suffix in (".tif", ".tiff") and _page_count(path) > 1:
            yield from _tiff(cv2, path)
        else:
            # cv2.imdecode raises on an empty buffer
            data = np.frombuffer(path.read_bytes() or b"\0", np.uint8)
            image = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
            if image is None:
                raise ReadError("not a readable image")
            yield image, None
    except OSError as error:
        raise ReadError(f"{error.strerror or error}".lower()) from error
    except cv2.error as error:
        raise ReadError("not a readable image") from error


def _animation(cv2: ModuleType, path: Path) -> Iterator[tuple[NDArray[Any], float | None]]:
    data = np.frombuffer(path.read_bytes() or b"\0", np.uint8)
    read, animation = cv2.imdecodeanimation(data)
    if not read or not len(animation.frames):
        raise ReadError("not a readable image")
    seconds, several = 0.0, len(animation.frames) > 1
    for image, duration_ms in zip(animation.frames, animation.durations, strict=True):
        yield image, seconds if several else None
        seconds += max(1, duration_ms) / 1000


def _tiff(cv2: ModuleType, path: Path) -> Iterator[tuple[NDArray[Any], float | None]]:
    pages = _page_count(path)
    for start in range(0, pages, PAGES_AT_ONCE):  # not all at once: memory use is constant
        count = min(PAGES_AT_ONCE, pages - start)
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
        read, images = cv2.imreadmulti(str(path), start, count, flags=flags)
        if not read:
            raise ReadError(f"page {start + 1} of {pages} is not readable")
        for image in images:
            yield image, None


def _page_count(path: Path) -> int:
    cv2 = require("cv2", extra="track")
    try:
        return max(1, int(cv2.imcount(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)))
    except cv2.error:
        return 1


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


def _is_pattern(path: Path) -> bool:
    return bool(PATTERN.search(path.name)) and _is_image(path) and not path.exists()


def _matching(pattern: Path) -> list[Path]:
    """Return the files whose names a numbered pattern describes, in the order of their numbers."""
    found = PATTERN.search(pattern.name)
    assert found is not None
    digits = rf"\d{{{found[2]},}}" if found[1] and found[2] else r"\d+"
    form = re.compile(
        re.escape(pattern.name[: found.start()]) + f"({digits})" + re.escape(pattern.name[found.end() :])
    )
    if not pattern.parent.is_dir():
        return []
    matches = [(form.fullmatch(path.name), path) for path in pattern.parent.iterdir()]
    return [path for _, path in sorted((int(match[1]), path) for match, path in matches if match)]


def natural_order(path: Path) -> list[int | str]:
    """Return the key of the natural order."""
    parts = re.split(r"(\d+)", path.name)
    return [int(part) if k % 2 else part for k, part in enumerate(parts)]
