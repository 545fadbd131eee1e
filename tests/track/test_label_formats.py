"""Readers and writers of every label format: values worked out by hand, round trips, mutated files."""

from __future__ import annotations

import json
import random
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from canton.errors import UserError
from canton.track.boxes import Box
from canton.track.data.formats.interpolate import interpolate
from canton.track.data.formats.labels import ALL_FRAMES, ClipLabels, Label, LabelledFrames, ReadSettings
from canton.track.data.formats.registry import FORMATS, detect_format, read_labels

SIZE = (200, 100)
SEED, ROUNDS = 24, 300


def voc(name: str, *box: float) -> str:
    sides = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    inner = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
    return f"<annotation><object><name>{name}</name><bndbox>{inner}</bndbox></object></annotation>"


CVAT = """<annotations><meta><task><name>t</name><start_frame>4</start_frame><stop_frame>24</stop_frame>
<frame_filter>step=5</frame_filter></task><source>sky.mp4</source></meta>
<track id="0" label="Drone"><box frame="4" outside="0" xtl="10" ytl="20" xbr="16" ybr="24.5"/>
<box frame="9" outside="1" xtl="10" ytl="20" xbr="16" ybr="24"/></track>
<track id="3" label="ball"><points frame="14" outside="0" points="7.5,8.25"/></track></annotations>"""
LABEL_STUDIO = [
    {
        "data": {"video": "/data/upload/sky.mp4"},
        "annotations": [
            {
                "result": [
                    {
                        "type": "videorectangle",
                        "id": "r",
                        "value": {
                            "labels": ["Drone"],
                            "sequence": [
                                {"frame": 1, "x": 10, "y": 20, "width": 5, "height": 10, "enabled": True},
                                {"frame": 3, "x": 20, "y": 20, "width": 5, "height": 10, "enabled": False},
                                {"frame": 9, "x": 30, "y": 20, "width": 5, "height": 10, "enabled": True},
                            ],
                        },
                    }
                ]
            }
        ],
    }
]
COCO_OF_IMAGES = {
    "images": [
        {"id": 1, "file_name": "sky/frame_0004.png"},
        {"id": 2, "file_name": "sky/frame_0005.png"},
        {"id": 3, "file_name": "sea_0000.png"},
    ],
    "categories": [{"id": 1, "name": "Drone"}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 20, 6, 4.5]}],
}


def make(folder: Path, name: str) -> Path:
    """Write an example of a format, and return its file or folder."""
    folder.mkdir(exist_ok=True)
    texts = {
        "csv": {
            "labels.csv": "clip,class,frame,x,y,w,h,track\nsky,Drone,4,10,20,6,4.5,1\nsky,ball,7,1,2,,,\n"
        },
        "mot": {"sky/gt/gt.txt": "5,1,10,20,6,4.5,1,-1,-1,-1\n6,1,0,0,0,0,0,2\n6,2,10,20,6,4.5,1,1,0.5\n"},
        "coco": {"labels.json": json.dumps(COCO_OF_IMAGES)},
        "yolo": {
            "classes.txt": "bird\nDrone\n",
            "sky_0004.txt": "1 0.065 0.2225 0.03 0.045\n",
            "sky_0005.txt": "",
        },
        "voc": {"sky_0004.xml": voc("Drone", 11, 21, 16, 24.5), "sky_0005.xml": "<annotation/>"},
        "cvat": {"sky.xml": CVAT},
        "antiuav": {
            "sky.json": json.dumps({"exist": [0, 1, 1], "gt_rect": [[], [10, 20, 6, 4.5], [1, 2, 3, 4]]})
        },
        "tracknet": {"sky_ball.csv": "Frame,Visibility,X,Y\n0,0,0,0\n1,1,7.5,8.25\n"},
        "visdrone": {"sky.txt": "5,0,10,20,6,4.5,1,4,0,0\n5,1,1,2,0,0,0,0,0,0\n"},
        "labelstudio": {"export.json": json.dumps(LABEL_STUDIO)},
    }[name]
    for file, text in texts.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text)
    return folder if len(texts) > 1 or name in ("csv", "coco", "mot") else folder / next(iter(texts))


HERE = Box(10, 20, 6, 4.5)
POINT = Box(7.5, 8.25, 0, 0)
EXPECTED = {
    "csv": ((Label(4, HERE, 1, "drone"), Label(7, Box(1, 2, 0, 0), 0, "ball")), ALL_FRAMES),
    "mot": ((Label(4, HERE, 1, ""), Label(5, HERE, 2, "")), ALL_FRAMES),
    "coco": ((Label(4, HERE, 0, "drone"),), LabelledFrames(((4, 5),))),
    "yolo": ((Label(4, HERE, 0, "drone"),), ALL_FRAMES),
    "voc": ((Label(4, HERE, 0, "drone"),), LabelledFrames(((4, 5),))),
    "cvat": ((Label(4, HERE, 1, "drone"), Label(14, POINT, 4, "ball")), LabelledFrames(((4, 24),), 5)),
    "antiuav": (
        (Label(1, HERE, 1, "drone"), Label(2, Box(1, 2, 3, 4), 1, "drone")),
        LabelledFrames(((0, 2),)),
    ),
    "tracknet": ((Label(1, POINT, 1, "ball"),), LabelledFrames(((0, 1),))),
    "visdrone": ((Label(4, HERE, 1, "car"),), ALL_FRAMES),
    "labelstudio": (
        (
            Label(0, Box(20, 20, 10, 10), 1, "drone"),
            Label(1, Box(30, 20, 10, 10), 1, "drone"),
            Label(2, Box(40, 20, 10, 10), 1, "drone"),
            Label(8, Box(60, 20, 10, 10), 1, "drone"),
        ),
        ALL_FRAMES,
    ),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_read(tmp_path: Path, name: str) -> None:
    path = make(tmp_path / "in", name)
    named = name if name == "visdrone" else None
    assert detect_format(path) == ("mot" if named else name)
    clip = read_labels(path, named, ReadSettings(size=SIZE))["sky"]
    labels, labelled = EXPECTED[name]
    assert clip.labelled == labelled
    assert [(one.frame, one.track, one.class_name) for one in clip.labels] == [
        (one.frame, one.track, one.class_name) for one in labels
    ]
    assert np.allclose([one.box for one in clip.labels], [one.box for one in labels])
    assert all(str(tmp_path) in one.where for one in clip.labels), "every label knows its place"


@pytest.mark.parametrize("to", ["csv", "mot", "coco"])
def test_round_trip(tmp_path: Path, to: str) -> None:
    """Boxes, tracks, classes, negatives and the labelled frames, as far as the format has them."""
    rng = np.random.default_rng(0)
    boxes = [Box(*(float(v) for v in rng.uniform(1, 90, 4))) for _ in range(6)]
    kinds = ("drone", "bird", "drone", "", "drone", "drone")
    a = ClipLabels.of("a", [Label(3 * k, box, k + 1, kinds[k]) for k, box in enumerate(boxes)])
    b = ClipLabels.of("b", [])
    clips = [a, b]
    if to != "mot":
        some = LabelledFrames(((0, 3), (6, 9), (12, 15)))
        clips.append(a._replace(name="c", labelled=some))
        clips.append(a._replace(name="d", labelled=LabelledFrames(((0, 15),), 3)))
    assert FORMATS[to].write is not None
    FORMATS[to].write(tmp_path, clips)
    again = read_labels(tmp_path)
    for clip in clips:
        back = again[clip.name]
        assert back.labels == clip.labels
        assert back.class_name == clip.class_name
        assert [back.labelled.has(k) for k in range(16)] == [clip.labelled.has(k) for k in range(16)]
    assert again["b"].labels == (), "an annotated clip without rows stays"


def test_what_a_format_cannot_say_is_refused(tmp_path: Path) -> None:
    point = ClipLabels.of("a", [Label(0, Box(1, 2, 0, 0), 1, "ball")])
    for to in ("mot", "coco"):
        with pytest.raises(UserError, match="point"):
            FORMATS[to].write(tmp_path, [point])  # type: ignore[misc]
    with pytest.raises(UserError, match="not labelled"):
        FORMATS["mot"].write(tmp_path, [point._replace(labelled=LabelledFrames(None, 5))])  # type: ignore[misc]
    FORMATS["csv"].write(tmp_path, [point])  # type: ignore[misc]
    assert read_labels(tmp_path)["a"].labels == point.labels


def test_labelled_frames() -> None:
    frames = LabelledFrames.parse("10-20 30", 5)
    assert [k for k in range(40) if frames.has(k)] == [10, 15, 20, 30]
    assert [k for k in range(12) if LabelledFrames.parse("", 5).has(k)] == [0, 5, 10]
    assert LabelledFrames.of([7, 1, 2, 3]) == LabelledFrames(((1, 3), (7, 7)))
    for text, every in (("3-1", 1), ("a", 1), ("1-2-3", 1), ("", 0)):
        with pytest.raises(ValueError, match=r"labelled|every"):
            LabelledFrames.parse(text, every)


def test_interpolation() -> None:
    def parabola(k: int) -> Box:
        return Box.from_centre(10 + 2 * k, 50 - 0.5 * k * k, 8, 6)

    keys = [Label(k, parabola(k), 1, "ball") for k in (0, 4, 8, 60)]
    other = [Label(2, Box(1, 1, 2, 2), 2, "ball")]
    clip = ClipLabels.of("a", [*keys, *other], labelled=LabelledFrames(((0, 8),), 4))
    for method, tolerance in (("linear", 5.0), ("quadratic", 1e-9)):
        filled = interpolate(clip, method)
        assert filled.labelled == ALL_FRAMES
        found = {label.frame: label.box for label in filled.labels if label.track == 1}
        assert sorted(found) == [*range(9), 60], "the long gap stays"
        assert all(np.allclose(found[k], parabola(k), atol=tolerance) for k in range(9))
        assert np.allclose(found[2], parabola(2), atol=1e-9) == (method == "quadratic")
    middle = {label.frame: label.box for label in interpolate(clip, "linear").labels}
    assert middle[6].centre == pytest.approx(np.mean([parabola(4).centre, parabola(8).centre], 0))
    with pytest.raises(UserError, match="two boxes in frame 2"):
        interpolate(ClipLabels.of("a", [*other, *other]), "linear")
    with pytest.raises(UserError, match="cubic"):
        interpolate(clip, "cubic")


@pytest.mark.parametrize(
    ("name", "file", "text", "says"),
    [
        ("yolo", "sky_0004.txt", "1 60 40 6 4\n", "sky_0004.txt, line 1: values"),
        ("yolo", "sky_0004.txt", "2 0.1 0.2 0.1 0.1\n", "line 1: class"),
        ("yolo", "sky_0004.txt", "1 0.1 0.2\n", "line 1: a row"),
        ("voc", "sky_0005.xml", voc("Drone", 11, 21, 10, 24), "sky_0005.xml.*box"),
        ("voc", "sky_0005.xml", "<annotation><object><name>x</name></object></annotation>", "bndbox"),
        ("cvat", "sky.xml", CVAT.replace('xtl="10"', 'xtl="19"', 1), "track 0: box"),
        ("cvat", "sky.xml", CVAT.replace(' label="ball"', ""), "track 3.*label"),
        ("cvat", "sky.xml", "<annotations><image id='0'/></annotations>", "CVAT for video"),
        ("antiuav", "sky.json", '{"exist": [1], "gt_rect": [[1, 2, 0, 4]]}', "gt_rect, entry 0: box"),
        ("antiuav", "sky.json", '{"exist": [1, 1], "gt_rect": [[1, 2, 3, 4]]}', "2"),
        ("tracknet", "sky_ball.csv", "Frame,Visibility,X,Y\n0,1,a,2\n", "line 2"),
        ("visdrone", "sky.txt", "5,0,10,20,6,4.5,1,44,0,0\n", "line 1: category"),
        ("labelstudio", "export.json", json.dumps(LABEL_STUDIO).replace('"width": 5', '"width": 0'), "box"),
        ("mot", "sky/gt/gt.txt", "0,1,10,20,6,4\n", "line 1: frame"),
        ("csv", "labels.csv", "clip,frame,x,y,w,h\nA,0,1,2,3,\n", "line 2"),
        ("coco", "labels.json", json.dumps(COCO_OF_IMAGES).replace("sea_0000", "sea"), "images, entry 2"),
    ],
)
def test_wrong_labels_name_their_place(tmp_path: Path, name: str, file: str, text: str, says: str) -> None:
    path = make(tmp_path / "in", name)
    (tmp_path / "in" / file).write_text(text)
    with pytest.raises(UserError, match=says) as caught:
        read_labels(path, name, ReadSettings(size=SIZE))
    assert str(tmp_path) in str(caught.value)


def test_relative_values_need_a_size(tmp_path: Path) -> None:
    for name in ("yolo", "labelstudio"):
        with pytest.raises(UserError, match="size"):
            read_labels(make(tmp_path / name, name), name)


def test_mutated_files_never_raise_anything_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """300 mutated files are read and written, or refused with a UserError of one line."""
    monkeypatch.setattr("os.fsync", lambda file: None)  # takes most of the time
    rng = random.Random(SEED)
    names = list(FORMATS)
    refused = read = 0
    for round_ in range(ROUNDS):
        name = names[round_ % len(names)]
        path = make(tmp_path / f"{round_}", name)
        files = [file for file in (tmp_path / f"{round_}").rglob("*") if file.is_file()]
        file = rng.choice(files)
        data = bytearray(file.read_bytes())
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(data) + 1)
            match rng.randrange(9):
                case 0:
                    del data[at : at + rng.randint(1, 20)]
                case 1:
                    data[at:at] = rng.choice(
                        [b"-", b"1e999", b"nan", b'"', b"\xff", b"[", b"{}", b"\n", b"9" * 30]
                    )
                case 2:
                    data[at : at + 1] = bytes([rng.randrange(256)])
                case 3:
                    data[at:at] = data[rng.randrange(len(data) + 1) :][:40]
                case 4:
                    data = data[:at]
                case _:  # another number
                    digits = [k for k, byte in enumerate(data) if chr(byte).isdigit()]
                    if digits:
                        data[rng.choice(digits)] = ord(rng.choice("0123456789.-"))
        file.write_bytes(bytes(data))
        out = tmp_path / f"out_{round_}"
        out.mkdir()
        clips: dict[str, ClipLabels] = {}
        try:
            clips = read_labels(path, rng.choice([name, None]), ReadSettings(size=SIZE))
            read += 1
        except UserError as error:
            refused += "\n" not in str(error)
        for to in ("csv", "mot", "coco"):
            with suppress(UserError):  # what a format cannot say
                FORMATS[to].write(out, list(clips.values()))  # type: ignore[misc]
    assert (read > 30, refused > 30, read + refused) == (True, True, ROUNDS)
