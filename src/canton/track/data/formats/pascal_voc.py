"""Labels in Pascal VOC's format: an XML file per image.

Source: Everingham et al. 2010, "The Pascal visual object classes (VOC) challenge". Pixels count from 1, and
xmax, ymax are inside the box.
"""

from __future__ import annotations

from pathlib import Path

from canton.errors import UserError
from canton.track.data.formats.labels import (
    ClipLabels,
    Label,
    LabelledFrames,
    ReadSettings,
    checked_box,
    checked_frame,
    frame_of_name,
    normalise_class,
)
from canton.track.data.formats.xml_tree import number_in, read_xml


def read_pascal_voc(folder: Path, settings: ReadSettings) -> dict[str, ClipLabels]:
    """Return the labels of a folder of files CLIP_NUMBER.xml, by the clip's name.

    A frame without a file is not labelled.

    Args:
        folder: the folder, or one file.
        settings: `clip` names the clip of files that are named by numbers alone (default: the folder).

    Raises:
        UserError: a file cannot be read, or an object is invalid.
    """
    paths = [folder] if folder.is_file() else sorted(folder.glob("*.xml"))
    if not paths:
        raise UserError(f"{folder} must have label files CLIP_NUMBER.xml, got none")
    labels: dict[str, list[Label]] = {}
    frames: dict[str, list[int]] = {}
    for path in paths:
        root = read_xml(path)
        found = frame_of_name(path.stem) or frame_of_name(Path(root.findtext("filename") or "").stem)
        if root.tag != "annotation" or found is None:
            raise UserError(
                f"{path} must be a Pascal VOC file whose name ends with the number of the frame, such as "
                "A_0007.xml"
            )
        name = found[0] or settings.clip or path.parent.name
        clip = labels.setdefault(name, [])
        try:
            frame = checked_frame(found[1], settings.first_frame)
            frames.setdefault(name, []).append(frame)
            for count, item in enumerate(root.iter("object")):
                where = f"{path}, object {count}"
                left, top, right, bottom = (
                    number_in(item, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")
                )
                box = checked_box(left - 1, top - 1, right - left + 1, bottom - top + 1)
                clip.append(Label(frame, box, 0, normalise_class(item.findtext("name") or ""), where))
        except ValueError as error:
            raise UserError(f"{path}, object {len(clip)}: {error}") from error
    return {
        name: ClipLabels.of(name, found, labelled=LabelledFrames.of(frames[name]))
        for name, found in labels.items()
    }
