"""Annotated clips in a folder: what was filmed, and where in each frame the thing is.

Where to get such clips: F. Svanström, F. Alonso-Fernandez, C. Englund, "A dataset for multi-sensor drone
detection", Data in Brief 39 (2021) 107521, arXiv:2111.01888; CC0. 365 infrared and 285 visible videos of
drones, birds, airplanes and helicopters lie at https://doi.org/10.5281/zenodo.5500576 and
https://github.com/DroneDetectionThesis/Drone-detection-dataset (their labels in Matlab's form).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload

from canton.errors import UserError
from canton.track.boxes import Box
from canton.track.data.labels import ClipLabels, read_coco, read_labels, read_mot, with_splits
from canton.track.video.ffmpeg import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from canton.track.video.reader import Frame, open_video


@dataclass(frozen=True)
class Clip:
    """One annotated clip.

    name: without an ending. path: of the video, or of a folder of pictures. kind: what the clip is of, in
    lower case. modality: such as "IR" or "V", "" where nothing says. split: such as "train", "" where nothing
    says. labels_by_frame: boxes in px, by the frame's number from 0; a frame without an entry shows nothing.
    kinds_by_frame: what is in each of them: now and then a bird crosses a clip of a drone; a frame without an
    entry shows `kind` alone.

    Raises: UserError if a frame has kinds for more or fewer boxes than it has.
    """

    name: str
    path: Path
    kind: str
    modality: str
    split: str
    labels_by_frame: dict[int, tuple[Box, ...]]
    kinds_by_frame: dict[int, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for frame, kinds in self.kinds_by_frame.items():
            boxes = len(self.labels_by_frame.get(frame, ()))
            if len(kinds) != boxes:
                raise UserError(f"{self.name}, frame {frame}: {boxes} boxes have {len(kinds)} kinds")

    def kinds_at(self, frame: int) -> tuple[str, ...]:
        """What is in each box of the frame of this number."""
        return self.kinds_by_frame.get(frame) or (self.kind,) * len(self.labels_by_frame.get(frame, ()))

    @property
    def width(self) -> int:
        """Of the picture as it is shown, in px."""
        return self.size[0]

    @property
    def height(self) -> int:
        """Of the picture as it is shown, in px."""
        return self.size[1]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in px. The video is opened for it, once.

        Raises: UserError if it cannot be read.
        """
        known: tuple[int, int] | None = self.__dict__.get("_size")
        if known is None:
            with open_video(self.path) as video:
                known = video.width, video.height
            self.__dict__["_size"] = known
        return known

    def frames(self, fps: float | None = 10.0, *, gray: bool = False) -> Iterator[Frame]:
        """The frames, at most `fps` a second (None: all); see `canton.track.video.reader.open_video`.

        `Frame.index` is the number in the file, so that it finds its boxes in `labels_by_frame`. A clip that
        breaks off gives the frames before the break, and no word of it: use `open_video` to hear it.

        gray: brightness alone, pixels (H, W, 1).

        Raises: UserError, at the first frame, if the video cannot be read at all.
        """
        with open_video(self.path, fps=fps, gray=gray) as video:
            yield from video


class Footage(Sequence[Clip]):
    """The annotated clips of a folder, by name.

    The folder holds the videos (in it or in its folder clips/; a folder of pictures is a video too, a film
    has one of the endings `canton.track.video.ffmpeg.VIDEO_SUFFIXES`) and their labels in one of three forms:
    labels.csv, labels.json as COCO has it for video, or CLIP/gt/gt.txt beside the pictures CLIP/img1/
    or the film CLIP.mp4, as the MOT challenge has it; beside each of them splits.csv, if you like. See
    `canton.track.data.labels`.

    Args:
        split: only clips of this split, such as "train"; None for all.
        modality: only clips of this modality, such as "IR"; None for all.
        kinds: only clips of these kinds, such as ["drone"]; None for all. What else crosses them stays.
        split_column: the column of splits.csv that says the split.

    Raises: UserError for a folder without labels, labels that cannot be read, a split, modality or kind that
    no clip has, clips whose video is missing, or where no clip is left.
    """

    def __init__(
        self,
        directory: Path | str,
        *,
        split: str | None = None,
        modality: str | None = None,
        kinds: Collection[str] | None = None,
        split_column: str = "split",
    ) -> None:
        if isinstance(kinds, str):
            raise UserError(f"kinds is {kinds!r}: it is a list of kinds, such as [{kinds!r}]")
        self.directory = Path(directory)
        known = list(_labels_in(self.directory, split_column).values())
        if not known:
            raise UserError(f"{self.directory}: no clip is labelled there")
        chosen = known
        for what, wanted in (("modality", modality), ("split", split), ("kind", kinds)):
            if wanted is not None:
                names = [wanted] if isinstance(wanted, str) else wanted
                lower = _known(self.directory, known, what, names)
                chosen = [clip for clip in chosen if str(getattr(clip, what)).lower() in lower]
        if not chosen:
            raise UserError(
                f"{self.directory} has no clip that is all of this: {split=}, {modality=}, {kinds=}"
            )
        videos = _videos_in(self.directory)
        missing = [clip.name for clip in chosen if clip.name not in videos]
        if missing:
            raise UserError(
                f"{self.directory} has no video of {len(missing)} of {len(chosen)} clips, such as "
                f"{missing[0]} ({', '.join(VIDEO_SUFFIXES)}, or a folder of pictures, there or in clips/)"
            )
        self._clips = [
            Clip(clip.name, videos[clip.name], clip.kind, clip.modality, clip.split, *_by_frame(clip))
            for clip in sorted(chosen, key=lambda clip: clip.name)
        ]

    def check_labelled(self, kind: str) -> None:
        """Raises: UserError if none of the boxes is of `kind`."""
        there = {one for clip in self for frame in clip.labels_by_frame for one in clip.kinds_at(frame)}
        if kind not in there:
            names = ", ".join(sorted(one or "boxes without a class" for one in there)) or "nothing"
            raise UserError(f"{self.directory}: no {kind} is labelled in these clips: there are {names}")

    def __len__(self) -> int:
        return len(self._clips)

    @overload
    def __getitem__(self, index: int) -> Clip: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Clip]: ...

    def __getitem__(self, index: int | slice) -> Clip | Sequence[Clip]:
        return self._clips[index]


def _labels_in(folder: Path, split_column: str) -> dict[str, ClipLabels]:
    """By name; in whichever of the three forms."""
    if not folder.is_dir():
        raise UserError(f"cannot read {folder}: it is no folder")
    if (folder / "labels.csv").exists():
        return read_labels(folder / "labels.csv", split_column=split_column)
    if (folder / "labels.json").exists():
        found = read_coco(folder / "labels.json")
    else:
        found = {clip.name: clip for clip in map(read_mot, sorted(folder.glob("*/gt/gt.txt")))}
        if not found:
            raise UserError(f"{folder} has no labels: labels.csv, labels.json (COCO) or CLIP/gt/gt.txt (MOT)")
    return with_splits(found, folder / "splits.csv", split_column=split_column)


def _known(folder: Path, clips: list[ClipLabels], what: str, wanted: Collection[str]) -> set[str]:
    """`wanted` in lower case, each of which is some clip's `what`."""
    lower = {one.lower() for one in wanted}
    there = {str(getattr(clip, what)) for clip in clips}
    strange = sorted(lower - {one.lower() for one in there})
    if strange:
        raise UserError(
            f"{folder} has no clip whose {what} is {strange[0]!r}: there are "
            f"{', '.join(sorted(one or 'none' for one in there)) or 'no clips'}"
        )
    return lower


def _videos_in(folder: Path) -> dict[str, Path]:
    """All videos in the folder, or in its clips/, by the name of their clip."""
    found: dict[str, Path] = {}
    for place in (folder / "clips", folder):
        if place.is_dir():
            for path in sorted(place.iterdir(), key=_preference):
                if path.is_dir():
                    pictures = path / "img1"
                    if pictures.is_dir():
                        found.setdefault(path.name, pictures)
                    elif _holds_pictures(path):
                        found.setdefault(path.name, path)
                elif path.suffix.lower() in VIDEO_SUFFIXES:
                    found.setdefault(path.stem, path)
    return found


def _holds_pictures(folder: Path) -> bool:
    try:
        return any(path.suffix.lower() in IMAGE_SUFFIXES for path in folder.iterdir())
    except OSError:  # not for us to read
        return False


def _preference(path: Path) -> tuple[int, Path]:
    """Of several videos with one name the first is meant: a folder of pictures, or by its ending."""
    ending = path.suffix.lower()
    return (VIDEO_SUFFIXES.index(ending) if ending in VIDEO_SUFFIXES and not path.is_dir() else -1), path


def _by_frame(clip: ClipLabels) -> tuple[dict[int, tuple[Box, ...]], dict[int, tuple[str, ...]]]:
    boxes: dict[int, tuple[Box, ...]] = {}
    kinds: dict[int, tuple[str, ...]] = {}
    for label in clip.labels:
        boxes[label.frame] = (*boxes.get(label.frame, ()), label.box)
        kinds[label.frame] = (*kinds.get(label.frame, ()), label.kind or clip.kind)
    return boxes, kinds
