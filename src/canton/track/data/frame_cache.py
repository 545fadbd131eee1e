"""Clips decoded once and kept, so that training can look at any moment of any of them at once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from canton.io.atomic import atomic_write
from canton.track.boxes import Box
from canton.track.video.ffmpeg import image_files
from canton.track.video.preprocess import downscale
from canton.track.video.reader import open_video

if TYPE_CHECKING:
    from canton.track.data.dataset import Clip


class CachedClip(NamedTuple):
    """One decoded clip.

    frames: (T, H, W, 3) uint8, or (T, H, W, 1) where the picture has no colour; read from disk as needed.
    boxes: for every frame the boxes in px of `frames`. cuts: frames that do not follow from the one before.
    kind: what the clip is of. kinds: for every frame what is in each box; None: all are `kind`. problem: what
    broke the clip off behind these frames, one line, None if nothing did.
    """

    name: str
    kind: str
    frames: NDArray[np.uint8]
    boxes: tuple[tuple[Box, ...], ...]
    cuts: NDArray[np.bool_]
    kinds: tuple[tuple[str, ...], ...] | None = None
    problem: str | None = None

    def kinds_at(self, t: int) -> tuple[str, ...]:
        """What is in each box of frame `t`."""
        return (self.kind,) * len(self.boxes[t]) if self.kinds is None else self.kinds[t]


def cache_frames(
    clips: Sequence[Clip],
    *,
    fps: float,
    width: int,
    folder: Path | None = None,
    show: Callable[[int, int], None] | None = None,
) -> list[CachedClip]:
    """Decode `clips` at `fps` frames a second, scaled to `width` px where they are wider.

    A clip that was decoded before, with the same settings, is not decoded again. The frames lie in `folder`
    (left out: canton/frames in the user's cache folder), one .npy file a clip, and may be deleted at any
    time.

    Args:
        show: is told how many clips are done, and of how many.

    Raises: UserError for a clip that cannot be read at all; one that breaks off keeps the frames before, and
        says so in `CachedClip.problem`.
    """
    folder = folder or _cache()
    folder.mkdir(parents=True, exist_ok=True)
    stored = []
    for k, clip in enumerate(clips):
        path = folder / f"{_key(clip.path, fps, min(width, clip.width))}.npy"
        told = _problem_file(path)
        if not (path.exists() and told.exists()):
            _decode(clip, path, fps, width)
        frames = np.load(path, mmap_mode="r", allow_pickle=False)
        scale = min(1.0, width / clip.width)
        index, cuts = np.load(path.with_suffix(".index.npy"), allow_pickle=False)
        boxes = tuple(
            tuple(box.scaled(scale) for box in clip.labels_by_frame.get(int(frame), ())) for frame in index
        )
        kinds = tuple(clip.kinds_at(int(frame)) for frame in index)
        problem = told.read_text(encoding="utf-8") or None
        stored.append(CachedClip(clip.name, clip.kind, frames, boxes, cuts.astype(bool), kinds, problem))
        if show is not None:
            show(k + 1, len(clips))
    return stored


def clip_problems(clips: Sequence[CachedClip]) -> list[str]:
    """A line for every clip that breaks off."""
    return [f"{clip.problem}; what is before it is used" for clip in clips if clip.problem is not None]


def _decode(clip: Clip, path: Path, fps: float, width: int) -> None:
    pictures, index, cuts = [], [], []
    with open_video(clip.path, fps=fps) as video:
        for frame in video:
            pictures.append(downscale(frame.pixels, width))
            index.append(frame.index)
            cuts.append(frame.cut)
    frames = np.stack(pictures)
    if (frames[..., :1] == frames).all():
        frames = frames[..., :1]
    with atomic_write(path.with_suffix(".index.npy")) as file:
        np.save(file, np.array([index, cuts]))
    with atomic_write(_problem_file(path)) as file:  # empty where all is well
        file.write((video.problem or "").encode())
    with atomic_write(path) as file:  # last: where it is, all is
        np.save(file, np.ascontiguousarray(frames))


def _problem_file(path: Path) -> Path:
    return path.with_suffix(".problem.txt")


def _key(path: Path, fps: float, width: int) -> str:
    what = f"{path.resolve()} {_version(path)} {fps} {width}"
    return hashlib.sha256(what.encode(errors="surrogateescape")).hexdigest()[:24]


def _version(path: Path) -> str:
    """Another one for a film, or a picture of a folder, that was written anew; a folder's own time stays."""
    if path.is_dir():
        return " ".join(f"{picture.name}/{_version(picture)}" for picture in image_files(path))
    if not path.exists():
        return "missing"  # a link to nowhere, of which reading tells
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns}"


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "canton" / "frames"
