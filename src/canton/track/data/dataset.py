"""Footage: annotated clips in a folder.

A public dataset: Svanström et al. 2021, "A dataset for multi-sensor drone detection", Data in Brief 39,
arXiv:2111.01888; CC0. It has 365 infrared and 285 visible videos of drones, birds, airplanes and helicopters:
https://doi.org/10.5281/zenodo.5500576 and https://github.com/DroneDetectionThesis/Drone-detection-dataset
(labels in Matlab's format).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload

from canton.errors import UserError
from canton.track.boxes import Box
from canton.track.data.check_labels import check_clip
from canton.track.data.formats.coco import read_coco
from canton.track.data.formats.csv import add_splits, read_csv
from canton.track.data.formats.labels import ALL_FRAMES, ClipLabels, LabelledFrames
from canton.track.data.formats.mot import read_mot
from canton.track.video.ffmpeg import VIDEO_SUFFIXES
from canton.track.video.pictures import IMAGE_SUFFIXES
from canton.track.video.reader import Frame, open_video


@dataclass(frozen=True)
class Clip:
    """One annotated clip.

    Attributes:
        name: without a suffix.
        path: the video, or a folder of images.
        class_name: class of the clip, in lower case.
        modality: such as "IR" or "V"; "" if unknown.
        split: such as "train"; "" if unknown.
        boxes_by_frame: boxes in px, by the number of the frame, from 0. A frame without an entry has none.
        classes_by_frame: the class of each box. Frames without an entry have boxes of `class_name` alone.
        tracks_by_frame: the number of each box's object, 0 if unknown. Without an entry all are unknown.
        columns: every cell of the clip's row of splits.csv, such as "scene" and "distance".
        labelled: the frames that somebody labelled. In the others there may be objects without a box.

    Raises:
        UserError: a frame has more or fewer classes than boxes.
    """

    name: str
    path: Path
    class_name: str
    modality: str
    split: str
    boxes_by_frame: dict[int, tuple[Box, ...]]
    classes_by_frame: dict[int, tuple[str, ...]] = field(default_factory=dict)
    tracks_by_frame: dict[int, tuple[int, ...]] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    labelled: LabelledFrames = ALL_FRAMES

    def __post_init__(self) -> None:
        for frame, classes in self.classes_by_frame.items():
            boxes = len(self.boxes_by_frame.get(frame, ()))
            if len(classes) != boxes:
                raise UserError(
                    f"classes_by_frame must have one class per box: {self.name}, frame {frame} has {boxes} "
                    f"boxes and {len(classes)} classes"
                )

    def classes_at(self, frame: int) -> tuple[str, ...]:
        """Return the class of each box of a frame."""
        boxes = self.boxes_by_frame.get(frame, ())
        return self.classes_by_frame.get(frame) or (self.class_name,) * len(boxes)

    @property
    def width(self) -> int:
        """Width of the displayed image, in px."""
        return self.size[0]

    @property
    def height(self) -> int:
        """Height of the displayed image, in px."""
        return self.size[1]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in px. Opens the video once.

        Raises:
            UserError: the video cannot be read.
        """
        known: tuple[int, int] | None = self.__dict__.get("_size")
        if known is None:
            with open_video(self.path) as video:
                known = video.width, video.height
            self.__dict__["_size"] = known
        return known

    def frames(self, fps: float | None = 10.0, *, gray: bool = False) -> Iterator[Frame]:
        """Yield the frames; see `canton.track.video.reader.open_video`.

        `Frame.index` is the number in the file, and so the key of `boxes_by_frame`. A truncated clip yields
        the frames before the error and does not report it; use `open_video` to see it.

        Args:
            fps: largest frame rate. None: all frames.
            gray: yield luma alone, pixels (H, W, 1).

        Raises:
            UserError: the video cannot be read at all; raised at the first frame.
        """
        with open_video(self.path, fps=fps, gray=gray) as video:
            yield from video


class Footage(Sequence[Clip]):
    """The annotated clips of a folder, sorted by name.

    Videos lie in the folder or in its subfolder clips/. A video is a file with a suffix of
    `canton.track.video.ffmpeg.VIDEO_SUFFIXES`, or a folder of images. Labels are in one of three formats:
    labels.csv; labels.json (COCO for video); or CLIP/gt/gt.txt beside the images CLIP/img1/ or the video
    CLIP.mp4 (MOT). splits.csv beside them is optional. See `canton.track.data.formats`.

    Args:
        directory: the folder.
        split: only clips of this split, such as "train". None: all.
        modality: only clips of this modality, such as "IR". None: all.
        classes: only clips of these classes, such as ["drone"]. None: all. Boxes of other classes are kept.
        split_column: column of splits.csv that names the split. None: split_scene, or split without it.
        shared_val: allow places that are in both train and val.

    Raises:
        UserError: the folder has no labels, or they cannot be read; no clip has the split, modality or class;
            a clip has no video; or a place, the column scene of splits.csv, is in two splits of which
            `split` is one.
    """

    def __init__(
        self,
        directory: Path | str,
        *,
        split: str | None = None,
        modality: str | None = None,
        classes: Collection[str] | None = None,
        split_column: str | None = None,
        shared_val: bool = False,
    ) -> None:
        if isinstance(classes, str):
            raise UserError(f"classes must be a list, such as [{classes!r}], got {classes!r}")
        self.directory = Path(directory)
        labelled = list(_labels_in(self.directory, split_column).values())
        if not labelled:
            raise UserError(f"{self.directory} must have labelled clips, got none")
        _check_places(self.directory, labelled, split, shared_val=shared_val)
        chosen = labelled
        for attribute, values in (("modality", modality), ("split", split), ("class_name", classes)):
            if values is not None:
                names = [values] if isinstance(values, str) else values
                lower = _check_known(self.directory, labelled, attribute, names)
                chosen = [clip for clip in chosen if str(getattr(clip, attribute)).lower() in lower]
        if not chosen:
            raise UserError(f"{self.directory} has no clip with all of {split=}, {modality=}, {classes=}")
        videos = _videos_in(self.directory)
        self._labels = {clip.name: clip for clip in chosen}
        missing = [clip.name for clip in chosen if clip.name not in videos]
        suffixed = next((name for name in missing if Path(name).suffix.lower() in VIDEO_SUFFIXES), None)
        if suffixed is not None:
            where = next((label.where for label in self._labels[suffixed].labels), "splits.csv")
            raise UserError(
                f"{where}: clip must be named without a suffix, {Path(suffixed).stem}, got {suffixed}"
            )
        if missing:
            raise UserError(
                f"{self.directory} has no video for {len(missing)} of {len(chosen)} clips, such as "
                f"{missing[0]}: put it there or into clips/, as a folder of images or one of "
                + ", ".join(VIDEO_SUFFIXES)
            )
        self._clips = [
            Clip(
                clip.name,
                videos[clip.name],
                clip.class_name,
                clip.modality,
                clip.split,
                *_by_frame(clip),
                clip.columns,
                clip.labelled,
            )
            for clip in sorted(chosen, key=lambda clip: clip.name)
        ]

    def check(self, class_name: str | None = None) -> None:
        """Check the labels against the videos, which are opened; and that a box is of a class.

        Args:
            class_name: the class. None: any.

        Raises:
            UserError: names the file and the line of a label beyond the film, of a box outside the picture or
                of relative values; or no box is of the class.
        """
        for clip in self:
            check_clip(self._labels[clip.name], clip.path)
        if class_name is not None and any(clip.boxes_by_frame for clip in self):
            self.check_labelled(class_name)

    def check_labelled(self, class_name: str) -> None:
        """Check that a box is of this class.

        Raises:
            UserError: none is.
        """
        found = {name for clip in self for frame in clip.boxes_by_frame for name in clip.classes_at(frame)}
        if class_name not in found:
            names = ", ".join(sorted(name or "boxes without a class" for name in found)) or "nothing"
            raise UserError(f"{self.directory} must have boxes of class {class_name}, got {names}")

    def __len__(self) -> int:
        return len(self._clips)

    @overload
    def __getitem__(self, index: int) -> Clip: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Clip]: ...

    def __getitem__(self, index: int | slice) -> Clip | Sequence[Clip]:
        return self._clips[index]


def _labels_in(folder: Path, split_column: str | None) -> dict[str, ClipLabels]:
    """Return the labels of every clip, in any of the three formats."""
    if not folder.is_dir():
        raise UserError(f"cannot read {folder}: not a folder")
    if (folder / "labels.csv").exists():
        return read_csv(folder / "labels.csv", split_column=split_column)
    if (folder / "labels.json").exists():
        found = read_coco(folder / "labels.json")
    else:
        found = {clip.name: clip for clip in map(read_mot, sorted(folder.glob("*/gt/gt.txt")))}
        if not found:
            raise UserError(
                f"{folder} must have labels: labels.csv, labels.json (COCO) or CLIP/gt/gt.txt (MOT)"
            )
    return add_splits(found, folder / "splits.csv", split_column=split_column)


def _check_places(folder: Path, clips: list[ClipLabels], split: str | None, *, shared_val: bool) -> None:
    """Check that no place of `split` (None: of any split) is in another split.

    Raises:
        UserError: one is.
    """
    splits: dict[str, set[str]] = {}
    for clip in clips:
        if (scene := clip.columns.get("scene", "").strip()) and clip.split:
            splits.setdefault(scene, set()).add(clip.split.lower())
    for scene, found in sorted(splits.items()):
        if len(found) < 2 or (split is not None and split.lower() not in found):
            continue
        if shared_val and found == {"train", "val"}:
            continue
        raise UserError(
            f"splits must not share a place: scene {scene} is in {' and '.join(sorted(found))} in "
            f"{folder / 'splits.csv'}. Give every place to one split"
            + (", or allow it: shared_val" if found == {"train", "val"} else "")
        )


def _check_known(folder: Path, clips: list[ClipLabels], attribute: str, values: Collection[str]) -> set[str]:
    """Return `values` in lower case. Each must be the attribute of a clip.

    Raises:
        UserError: one is not.
    """
    lower = {name.lower() for name in values}
    found = {str(getattr(clip, attribute)) for clip in clips}
    unknown = sorted(lower - {name.lower() for name in found})
    if unknown:
        names = ", ".join(sorted(name or "none" for name in found)) or "no clips"
        raise UserError(f"{attribute} must be one of {names} in {folder}, got {unknown[0]!r}")
    return lower


def _videos_in(folder: Path) -> dict[str, Path]:
    """Return every video in the folder or in its clips/, by the name of its clip."""
    found: dict[str, Path] = {}
    for place in (folder / "clips", folder):
        if place.is_dir():
            for path in sorted(place.iterdir(), key=_preference):
                if path.is_dir():
                    images = path / "img1"
                    if images.is_dir():
                        found.setdefault(path.name, images)
                    elif _has_images(path):
                        found.setdefault(path.name, path)
                elif path.suffix.lower() in VIDEO_SUFFIXES:
                    found.setdefault(path.stem, path)
    return found


def _has_images(folder: Path) -> bool:
    try:
        return any(path.suffix.lower() in IMAGE_SUFFIXES for path in folder.iterdir())
    except OSError:  # no permission
        return False


def _preference(path: Path) -> tuple[int, Path]:
    """Return a sort key: of several videos with one name the first is used. Folders come first."""
    suffix = path.suffix.lower()
    return (VIDEO_SUFFIXES.index(suffix) if suffix in VIDEO_SUFFIXES and not path.is_dir() else -1), path


def _by_frame(
    clip: ClipLabels,
) -> tuple[dict[int, tuple[Box, ...]], dict[int, tuple[str, ...]], dict[int, tuple[int, ...]]]:
    boxes: dict[int, tuple[Box, ...]] = {}
    classes: dict[int, tuple[str, ...]] = {}
    tracks: dict[int, tuple[int, ...]] = {}
    for label in clip.labels:
        boxes[label.frame] = (*boxes.get(label.frame, ()), label.box)
        classes[label.frame] = (*classes.get(label.frame, ()), label.class_name or clip.class_name)
        tracks[label.frame] = (*tracks.get(label.frame, ()), label.track)
    return boxes, classes, tracks
