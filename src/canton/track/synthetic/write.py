"""Made scenes written to a folder, as videos with labels that `Footage` reads."""

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
from canton.track.synthetic.dataset import Scenes, in_order
from canton.track.synthetic.scene import Scene
from canton.track.video.writer import VideoWriter

FPS = 10.0
LABELS = ("clip", "modality", "class", "frame", "x", "y", "w", "h")
SPLITS = ("clip", "modality", "class", "split", "frames", "width", "height", "fps", "kind")
SETTINGS = "scenes.json"


def write_scenes(scenes: Scenes, folder: Path, *, workers: int = 0) -> Generator[int]:
    """Write clips/NAME.mp4, labels.csv, with the boxes of all that flies, and splits.csv.

    Yields the number of scenes that are there, first of those of an earlier run that was broken off, which
    are not made again, then after each. Of every ten scenes eight are for training, one for validation and
    one for test. A clip's class is the target, or, where that is absent, the first of what else flies,
    or NONE.

    Raises: UserError if the folder cannot be written, the disk is full, or scenes of other settings are
    there.
    """
    try:
        (folder / "clips").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {os_error_reason(error)}") from error
    _settle(folder, scenes)
    done = _done(folder)
    yield done
    if done >= len(scenes):
        return
    with in_order(scenes, workers=workers, start=done) as made:
        for index, scene in enumerate(made, done):
            _write(folder, index, scene, scenes.target)
            yield index + 1


def clip_name(index: int) -> str:
    """Of a scene."""
    return f"scene_{index:06d}"


def _settle(folder: Path, scenes: Scenes) -> None:
    """Scenes of one folder have the same settings, so that the rest can be made another day."""
    wanted: dict[str, Any] = {
        "seed": scenes.seed,
        "frames": scenes.frames,
        "size": scenes.size if isinstance(scenes.size, int) else list(scenes.size),
        "kind": scenes.kind,
        "backgrounds": str(scenes.backgrounds) if scenes.backgrounds else None,
        "target": scenes.target,
    }
    path = folder / SETTINGS
    if not path.exists():
        strange = [name for name in ("labels.csv", "splits.csv") if (folder / name).exists()]
        if strange:
            raise UserError(f"{folder} has a {strange[0]} that is not of made scenes: choose another folder")
        check_writable(path)
        with atomic_write(path) as file:
            file.write(json.dumps(wanted, indent=1).encode() + b"\n")
        return
    try:
        there = json.loads(path.read_text())
        other = [name for name, value in wanted.items() if there[name] != value]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    if other:
        name = other[0]
        raise UserError(
            f"{folder} has scenes whose {name} is {there[name]}, not {wanted[name]}: choose another folder"
        )


def _done(folder: Path) -> int:
    """How many scenes are there, whole; what was broken off in mid-writing is taken out of the tables."""
    tables = {name: _rows(folder / name) for name in ("splits.csv", "labels.csv")}
    done = 0
    for row in tables["splits.csv"]:
        if len(row) != len(SPLITS) or row[0] != clip_name(done) or not _clip(folder, done).exists():
            break
        done += 1
    whole = {clip_name(k) for k in range(done)}
    for name, rows in tables.items():
        head = SPLITS if name == "splits.csv" else LABELS
        kept = [row for row in rows if row and row[0] in whole and len(row) == len(head)]
        with atomic_write(folder / name) as file:
            file.write(_text([head, *kept]))
    return done


def _rows(path: Path) -> list[list[str]]:
    """Rows of a table, without its head and without a last line that was not finished."""
    if not path.exists():
        return []
    try:
        text = path.read_text()
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    whole = text[: text.rfind("\n") + 1]
    return list(csv.reader(whole.splitlines()))[1:]


def _write(folder: Path, index: int, scene: Scene, target: str) -> None:
    """The clip, its labels, and last the line in splits.csv that says that all of it is there."""
    path, part = _clip(folder, index), folder / "clips" / f".{clip_name(index)}.part.mp4"
    frames, height, width, _ = scene.frames.shape
    try:
        with VideoWriter(part, width, height, FPS) as writer:
            for picture in scene.frames:
                writer.write(picture)
        part.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {os_error_reason(error)}") from error
    finally:
        part.unlink(missing_ok=True)
    seen = [(what, t, box) for t, here in enumerate(scene.things(target)) for what, box in here]
    kind = target if scene.present else seen[0][0] if seen else "none"
    name, modality = clip_name(index), "IR" if scene.kind == "thermal" else "V"
    rows = [(name, modality, what.upper(), t, *_round(box)) for what, t, box in seen]
    _append(folder / "labels.csv", rows)
    split = ("train", "val", "test")[max(0, index % 10 - 7)]
    row = (name, modality, kind.upper(), split, frames, width, height, FPS, scene.kind)
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
