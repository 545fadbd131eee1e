"""Labels of one clip in the format of Anti-UAV (Jiang et al. 2021, arXiv:2101.08466): exist and gt_rect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from canton.errors import UserError
from canton.track.data.formats.json_tables import parse_entries, read_json
from canton.track.data.formats.labels import (
    ClipLabels,
    Label,
    LabelledFrames,
    ReadSettings,
    as_number,
    checked_box,
    normalise_class,
)

MODALITIES = {"ir_label": "IR", "infrared": "IR", "ir": "IR", "visible": "V", "rgb_label": "V", "rgb": "V"}
"""Modality by the file's name, in lower case. The clip is then named after the folder."""


def read_anti_uav(path: Path, settings: ReadSettings) -> dict[str, ClipLabels]:
    """Return the labels of a clip, by its name.

    `exist` has 1 or 0 per frame, and `gt_rect` x, y, width, height or nothing. Frames after the last entry
    are not labelled.

    Args:
        settings: `clip` names the clip (default: the file; the folder for names such as IR_label.json);
            `class_name` is the class (default: drone).

    Raises:
        UserError: the file cannot be read, or an entry is invalid.
    """
    content = read_json(path, "an Anti-UAV file")
    if not isinstance(content, dict) or not {"exist", "gt_rect"} <= set(content):
        raise UserError(f"{path} must be an Anti-UAV file with exist and gt_rect")
    exist = parse_entries(path, "exist", content["exist"], lambda value: as_number(value) != 0)
    count = iter(range(10**9))
    kind = normalise_class(settings.class_name) or "drone"

    def label_of(rect: Any) -> Label | None:
        frame = next(count)
        if frame >= len(exist):
            raise ValueError(f"exist has only {len(exist)} entries")
        if not exist[frame]:
            return None
        x, y, width, height = (as_number(value) for value in rect)
        box = checked_box(x, y, width, height)
        return Label(frame, box, 1, kind, f"{path}, gt_rect, entry {frame}")

    found = parse_entries(path, "gt_rect", content["gt_rect"], label_of)
    if len(found) != len(exist):
        raise UserError(f"{path} must have as many gt_rect as exist, got {len(found)} and {len(exist)}")
    modality = MODALITIES.get(path.stem.lower(), "")
    name = settings.clip or (path.absolute().parent.name if modality else path.stem)
    labels = [label for label in found if label is not None]
    clip = ClipLabels.of(name, labels, modality, LabelledFrames.of(range(len(exist))))
    return {name: clip._replace(class_name=kind)}
