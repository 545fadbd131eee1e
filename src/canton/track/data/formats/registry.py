"""Every label format: detection, reading and writing."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

from canton.errors import UserError
from canton.track.data.formats.anti_uav import read_anti_uav
from canton.track.data.formats.coco import read_coco, write_coco
from canton.track.data.formats.csv import read_csv, write_csv
from canton.track.data.formats.cvat import read_cvat
from canton.track.data.formats.json_tables import read_json
from canton.track.data.formats.label_studio import read_label_studio
from canton.track.data.formats.labels import ClipLabels, ReadSettings, read_text
from canton.track.data.formats.mot import read_mot, write_mot
from canton.track.data.formats.pascal_voc import read_pascal_voc
from canton.track.data.formats.tracknet import COLUMNS as TRACKNET_COLUMNS
from canton.track.data.formats.tracknet import read_tracknet
from canton.track.data.formats.visdrone import read_visdrone
from canton.track.data.formats.xml_tree import read_xml
from canton.track.data.formats.yolo import read_yolo

Clips = dict[str, ClipLabels]


class Format(NamedTuple):
    """A label format.

    Attributes:
        name: its name on the command line.
        read: (path, settings) -> labels by clip.
        write: (folder, clips) -> the files. None: it is only read.
    """

    name: str
    read: Callable[[Path, ReadSettings], Clips]
    write: Callable[[Path, Collection[ClipLabels]], list[Path]] | None = None


def _read_csv(path: Path, settings: ReadSettings) -> Clips:
    return read_csv(path / "labels.csv" if path.is_dir() else path)


def _read_coco(path: Path, settings: ReadSettings) -> Clips:
    return read_coco(path / "labels.json" if path.is_dir() else path, first_frame=settings.first_frame)


def _read_mot(path: Path, settings: ReadSettings) -> Clips:
    paths = sorted(path.glob("*/gt/gt.txt")) if path.is_dir() else [path]
    clips = [read_mot(file, class_name=settings.class_name) for file in paths]
    if settings.clip and len(clips) == 1:
        clips = [clips[0]._replace(name=settings.clip)]
    return {clip.name: clip for clip in clips}


FORMATS = {
    each.name: each
    for each in (
        Format("csv", _read_csv, write_csv),
        Format("mot", _read_mot, write_mot),
        Format("coco", _read_coco, write_coco),
        Format("yolo", read_yolo),
        Format("voc", read_pascal_voc),
        Format("cvat", read_cvat),
        Format("antiuav", read_anti_uav),
        Format("tracknet", read_tracknet),
        Format("visdrone", read_visdrone),
        Format("labelstudio", read_label_studio),
    )
}

FOLDERS = {
    "csv": "labels.csv",
    "coco": "labels.json",
    "mot": "*/gt/gt.txt",
    "voc": "*.xml",
    "yolo": "*.txt",
}
"""A file that a folder of each format has."""


def read_labels(path: Path, name: str | None = None, settings: ReadSettings | None = None) -> Clips:
    """Return the labels of every clip of a file or folder, by the clip's name.

    Args:
        path: file or folder.
        name: of the format. None: `detect_format` tells it.
        settings: what the file leaves unsaid.

    Raises:
        UserError: the format is unknown, or the labels are invalid.
    """
    if name is not None and name not in FORMATS:
        raise UserError(f"format must be one of {', '.join(FORMATS)}, got {name!r}")
    return FORMATS[name or detect_format(path)].read(path, settings or ReadSettings())


def detect_format(path: Path) -> str:
    """Return the name of a file's or folder's format. VisDrone's rows look like MOT's: name it.

    Raises:
        UserError: it is none that is known.
    """
    found = _of_folder(path) if path.is_dir() else _of_file(path)
    if found is None:
        raise UserError(f"{path} has no labels of a known format ({', '.join(FORMATS)}): name it")
    return found


def _of_folder(path: Path) -> str | None:
    return next((name for name, pattern in FOLDERS.items() if any(path.glob(pattern))), None)


def _of_file(path: Path) -> str | None:
    suffix = path.suffix.lower()
    if suffix == ".xml":
        return {"annotation": "voc", "annotations": "cvat"}.get(read_xml(path).tag)
    if suffix == ".json":
        content = read_json(path, "a label file")
        if isinstance(content, dict):
            for name, key in (("antiuav", "gt_rect"), ("coco", "images"), ("labelstudio", "data")):
                if key in content:
                    return name
        return "labelstudio" if isinstance(content, list) else None
    if suffix in (".csv", ".txt"):
        head = (read_text(path).splitlines() or [""])[0].split(",")
        if set(TRACKNET_COLUMNS) <= set(head):
            return "tracknet"
        return "csv" if "clip" in head else "mot"
    return None
