"""Cache of decoded clips, so that training can read any frame of any clip."""

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
from canton.track.video.pictures import image_files
from canton.track.video.preprocess import downscale
from canton.track.video.reader import open_video

if TYPE_CHECKING:
    from canton.track.data.dataset import Clip


class CachedClip(NamedTuple):
    """One decoded clip.

    Attributes:
        name: of the clip.
        class_name: class of the clip.
        frames: (T, H, W, 3) uint8, or (T, H, W, 1) if the video is grey; read from disk as needed.
        boxes: the boxes of every frame, in px of `frames`.
        cuts: (T,), True where a frame does not follow from the one before.
        classes: the class of every box. None: all are `class_name`.
        problem: one line on why decoding stopped early. None: it did not.
        labelled: (T,), False where nobody labelled the frame. None: all are labelled.
    """

    name: str
    class_name: str
    frames: NDArray[np.uint8]
    boxes: tuple[tuple[Box, ...], ...]
    cuts: NDArray[np.bool_]
    classes: tuple[tuple[str, ...], ...] | None = None
    problem: str | None = None
    labelled: NDArray[np.bool_] | None = None

    def classes_at(self, t: int) -> tuple[str, ...]:
        """Return the class of each box of frame `t`."""
        return (self.class_name,) * len(self.boxes[t]) if self.classes is None else self.classes[t]


def cache_frames(
    clips: Sequence[Clip],
    *,
    fps: float,
    width: int,
    folder: Path | None = None,
    on_decode: Callable[[int, int], None] | None = None,
) -> list[CachedClip]:
    """Decode clips and keep their frames on disk.

    A clip that was decoded before with the same settings is not decoded again. The files may be deleted at
    any time.

    Args:
        clips: the clips.
        fps: largest frame rate, in frames per second.
        width: wider frames are resized to this width, in px.
        folder: for the frames, one .npy file per clip. None: canton/frames in the user's cache folder.
        on_decode: called with the number of clips done and their total.

    Raises:
        UserError: a clip cannot be read at all. A truncated clip keeps the frames before the error, and
            `CachedClip.problem` reports it.
    """
    folder = folder or _cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    cached = []
    for k, clip in enumerate(clips):
        path = folder / f"{_key(clip.path, fps, min(width, clip.width))}.npy"
        problem_file = _problem_file(path)
        if not (path.exists() and problem_file.exists()):
            _decode(clip, path, fps, width)
        frames = np.load(path, mmap_mode="r", allow_pickle=False)
        scale = min(1.0, width / clip.width)
        index, cuts = np.load(path.with_suffix(".index.npy"), allow_pickle=False)
        boxes = tuple(
            tuple(box.scaled(scale) for box in clip.boxes_by_frame.get(int(frame), ())) for frame in index
        )
        classes = tuple(clip.classes_at(int(frame)) for frame in index)
        problem = problem_file.read_text(encoding="utf-8") or None
        labelled = np.array([clip.labelled.has(int(frame)) for frame in index], bool)
        cached.append(
            CachedClip(
                clip.name,
                clip.class_name,
                frames,
                boxes,
                cuts.astype(bool),
                classes,
                problem,
                None if labelled.all() else labelled,
            )
        )
        if on_decode is not None:
            on_decode(k + 1, len(clips))
    return cached


def clip_problems(clips: Sequence[CachedClip]) -> list[str]:
    """Return one line for every truncated clip."""
    return [f"{clip.problem}; the frames before are used" for clip in clips if clip.problem is not None]


def _decode(clip: Clip, path: Path, fps: float, width: int) -> None:
    images, index, cuts, problem = [], [], [], None
    with open_video(clip.path, fps=fps) as video:
        for frame in video:
            height, found, _ = frame.pixels.shape
            if (found, height) != (video.width, video.height):
                first = f"{video.width} x {video.height}"
                problem = f"{clip.path} changes from {first} to {found} x {height} px at frame {frame.index}"
                break
            images.append(downscale(frame.pixels, width))
            index.append(frame.index)
            cuts.append(frame.cut)
    frames = np.stack(images)
    if (frames[..., :1] == frames).all():
        frames = frames[..., :1]
    with atomic_write(path.with_suffix(".index.npy")) as file:
        np.save(file, np.array([index, cuts]))
    with atomic_write(_problem_file(path)) as file:  # empty if there is none
        file.write((problem or video.problem or "").encode())
    with atomic_write(path) as file:  # last: its presence means that all are complete
        np.save(file, np.ascontiguousarray(frames))


def _problem_file(path: Path) -> Path:
    return path.with_suffix(".problem.txt")


def _key(path: Path, fps: float, width: int) -> str:
    text = f"{path.resolve()} {_version(path)} {fps} {width}"
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:24]


def _version(path: Path) -> str:
    """Return text that changes when the file, or an image of the folder, is rewritten."""
    if path.is_dir():
        return " ".join(f"{image.name}/{_version(image)}" for image in image_files(path))
    if not path.exists():
        return "missing"  # a broken link: reading it raises the error
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns}"


def _cache_folder() -> Path:
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "canton" / "frames"
