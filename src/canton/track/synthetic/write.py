"""Synthetic scenes written to a folder, as videos with labels that `Footage` reads."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

from canton.errors import UserError
from canton.io.atomic import atomic_write, check_writable, os_error_reason
from canton.track.boxes import Box
from canton.track.synthetic.dataset import Scenes, iterate_scenes
from canton.track.synthetic.scene import Scene
from canton.track.video.writer import VideoWriter

FPS = 10.0
LABELS = ("clip", "modality", "class", "frame", "x", "y", "w", "h")
SPLITS = ("clip", "modality", "class", "split", "frames", "width", "height", "fps", "kind")
SETTINGS = "scenes.json"


def write_scenes(scenes: Scenes, folder: Path, *, workers: int = 0) -> Generator[int]:
    """Write clips/NAME.mp4, labels.csv (the boxes of all objects) and splits.csv.

    Of every ten scenes eight are for training, one for validation, one for test. The class of a clip is the
    target's; without the target, that of its first object, or NONE.

    Yields:
        The number of finished scenes: first that of an earlier run, then one more after each scene.

    Raises:
        UserError: the folder cannot be written, the disk is full, or its scenes have other settings.
    """
    try:
        (folder / "clips").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {os_error_reason(error)}") from error
    _check_settings(folder, scenes)
    done = _count_finished(folder)
    yield done
    if done >= len(scenes):
        return
    with iterate_scenes(scenes, workers=workers, start=done) as remaining:
        for index, scene in enumerate(remaining, done):
            _write(folder, index, scene, scenes.target_class)
            yield index + 1


def clip_name(index: int) -> str:
    """Return the name of a scene's clip."""
    return f"scene_{index:06d}"


def _check_settings(folder: Path, scenes: Scenes) -> None:
    """Check that the folder's scenes have the same settings; write the settings if it has none."""
    settings: dict[str, Any] = {
        "seed": scenes.seed,
        "frames": scenes.frames,
        "size": scenes.size if isinstance(scenes.size, int) else list(scenes.size),
        "kind": scenes.kind,
        "backgrounds": str(scenes.backgrounds) if scenes.backgrounds else None,
        "target_class": scenes.target_class,
    }
    path = folder / SETTINGS
    if not path.exists():
        foreign = [name for name in ("labels.csv", "splits.csv") if (folder / name).exists()]
        if foreign:
            raise UserError(
                f"{folder} has a {foreign[0]} that `canton track scenes` did not write: choose another folder"
            )
        check_writable(path)
        with atomic_write(path) as file:
            file.write(json.dumps(settings, indent=1).encode() + b"\n")
        return
    try:
        stored = json.loads(path.read_text())
        other = [name for name, value in settings.items() if stored[name] != value]
    except KeyError as error:
        raise UserError(
            f"{path} must have {error.args[0]}; an older version may have written it: choose another folder"
        ) from error
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    if other:
        name = other[0]
        raise UserError(
            f"{name} must be {stored[name]} in {folder}, which has such scenes, got {settings[name]}: choose "
            "another folder"
        )


def _count_finished(folder: Path) -> int:
    """Return the number of finished scenes, and remove unfinished ones from the tables."""
    tables = {name: _rows(folder / name) for name in ("splits.csv", "labels.csv")}
    done = 0
    for row in tables["splits.csv"]:
        if len(row) != len(SPLITS) or row[0] != clip_name(done) or not _clip(folder, done).exists():
            break
        done += 1
    complete = {clip_name(k) for k in range(done)}
    for name, rows in tables.items():
        head = SPLITS if name == "splits.csv" else LABELS
        complete_rows = [row for row in rows if row and row[0] in complete and len(row) == len(head)]
        with atomic_write(folder / name) as file:
            file.write(_text([head, *complete_rows]))
    return done


def _rows(path: Path) -> list[list[str]]:
    """Return the rows of a table without its header and without an unfinished last line."""
    if not path.exists():
        return []
    try:
        text = path.read_text()
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    complete = text[: text.rfind("\n") + 1]
    return list(csv.reader(complete.splitlines()))[1:]


def _write(folder: Path, index: int, scene: Scene, target_class: str) -> None:
    """Write the clip, its labels, and last its row in splits.csv, which marks it as finished."""
    path, part = _clip(folder, index), folder / "clips" / f".{clip_name(index)}.part.mp4"
    frames, height, width, _ = scene.frames.shape
    try:
        with VideoWriter(part, width, height, FPS) as writer:
            for image in scene.frames:
                writer.write(image)
        part.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {os_error_reason(error)}") from error
    finally:
        part.unlink(missing_ok=True)
    boxes = enumerate(scene.labelled_boxes(target_class))
    labels = [(label, t, box) for t, frame in boxes for label, box in frame]
    class_name = target_class if scene.present else labels[0][0] if labels else "none"
    name, modality = clip_name(index), "IR" if scene.kind == "thermal" else "V"
    rows = [(name, modality, label.upper(), t, *_round(box)) for label, t, box in labels]
    _append(folder / "labels.csv", rows)
    split = ("train", "val", "test")[max(0, index % 10 - 7)]
    row = (name, modality, class_name.upper(), split, frames, width, height, FPS, scene.kind)
    _append(folder / "splits.csv", [row])


def _clip(folder: Path, index: int) -> Path:
    return folder / "clips" / f"{clip_name(index)}.mp4"


def _round(box: Box) -> tuple[float, ...]:
    return tuple(round(value, 2) for value in box)


def _append(path: Path, rows: list[tuple[Any, ...]]) -> None:
    try:
        with path.open("ab") as file:
            file.write(_text(rows))
    except OSError as error:
        raise UserError(f"cannot write {path}: {os_error_reason(error)}") from error


def _text(rows: Any) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
