"""Label formats: the boxes that are read, and errors that name the line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from canton.errors import UserError
from canton.track.boxes import Box
from canton.track.data.formats.coco import read_coco
from canton.track.data.formats.csv import read_csv
from canton.track.data.formats.labels import ClipLabels, Label, LabelledFrames
from canton.track.data.formats.mot import read_mot

CSV = """clip,modality,class,frame,x,y,w,h
B,IR,DRONE,4,10.5,20,6,4
A,V,BIRD,0,1,2,3,4
B,IR,DRONE,2,10,20,6,4
"""


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_centre_of_a_box() -> None:
    assert Box(10, 20, 6, 5).centre == (13, 22.5)


def test_csv(tmp_path: Path) -> None:
    clips = read_csv(written(tmp_path / "labels.csv", CSV))
    drone = (Label(2, Box(10, 20, 6, 4), 0, "drone"), Label(4, Box(10.5, 20, 6, 4), 0, "drone"))
    assert clips == {
        "B": ClipLabels("B", "drone", "IR", "", drone),
        "A": ClipLabels("A", "bird", "V", "", (Label(0, Box(1, 2, 3, 4), 0, "bird"),)),
    }


def test_csv_with_splits(tmp_path: Path) -> None:
    written(
        tmp_path / "splits.csv",
        "clip,class,split,place\nA,BIRD,train,test\nB,DRONE,val,train\nC,,test,test\n",
    )
    path = written(tmp_path / "labels.csv", CSV)
    assert {clip.name: clip.split for clip in read_csv(path).values()} == {
        "A": "train",
        "B": "val",
        "C": "test",
    }
    assert read_csv(path)["C"].labels == ()
    assert read_csv(path, split_column="place")["A"].split == "test"
    with pytest.raises(UserError, match="nowhere"):
        read_csv(path, split_column="nowhere")


def test_class_of_a_clip(tmp_path: Path) -> None:
    """That of splits.csv, else the most frequent of its labels; labels keep their own."""
    rows = "A,IR, BIRD ,0,1,2,3,4\nA,IR,Drone,0,5,6,7,8\nA,IR,DRONE,1,5,6,7,8\n"
    path = written(tmp_path / "labels.csv", CSV.splitlines()[0] + "\n" + rows)
    (clip,) = read_csv(path).values()
    assert clip.class_name == "drone"
    assert [label.class_name for label in clip.labels] == ["bird", "drone", "drone"]
    written(tmp_path / "splits.csv", "clip,class,modality,split\nA, Bird,V,test\n")
    (clip,) = read_csv(path).values()
    assert (clip.class_name, clip.modality, clip.split) == ("bird", "V", "test")
    assert [label.class_name for label in clip.labels] == ["bird", "drone", "drone"]
    written(tmp_path / "splits.csv", "clip,class,modality,split\nA,,,test\n")
    assert read_csv(path)["A"].class_name == "drone", "an empty cell says nothing"
    assert read_csv(path)["A"].modality == "IR"
    written(path, CSV.splitlines()[0] + "\nA,IR,,0,1,2,3,4\nA,IR,,1,1,2,3,4\nA,IR,BIRD,2,1,2,3,4\n")
    assert read_csv(path)["A"].class_name == "bird", "a box without a class says nothing either"


def test_csv_with_required_columns_only_and_a_byte_order_mark(tmp_path: Path) -> None:
    text = "\ufefftrack;clip".replace(";", ",") + ",frame,x,y,w,h\r\n7,A,0,1,2,3,4\r\n"
    (labels,) = read_csv(written(tmp_path / "any.csv", text)).values()
    assert labels == ClipLabels("A", "", "", "", (Label(0, Box(1, 2, 3, 4), 7, ""),))


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("A,V,BIRD,0,1,2,3", "line 5: a cell is missing"),
        ("A,V,BIRD,zero,1,2,3,4", "line 5: .*'zero'"),
        ("A,V,BIRD,0,1,2,wide,4", "line 5: .*'wide'"),
        ("A,V,BIRD,-1,1,2,3,4", "line 5: frame"),
        ("A,V,BIRD,0,1,2,0,4", "line 5: box"),
        ("A,V,BIRD,0,nan,2,3,4", "line 5: box"),
        ("A" * 140_000 + ",V,BIRD,0,1,2,3,4", "line 5: field larger than field limit"),
    ],
)
def test_invalid_csv_row(tmp_path: Path, row: str, says: str) -> None:
    path = written(tmp_path / "labels.csv", f"{CSV}{row}\n")
    with pytest.raises(UserError, match=says) as caught:
        read_csv(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_deeply_nested_json(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="COCO"):
        read_coco(written(tmp_path / "labels.json", "[" * 200_000))


def test_csv_without_a_column(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing: y, h"):
        read_csv(written(tmp_path / "labels.csv", "clip,frame,x,w\n"))


def test_mot(tmp_path: Path) -> None:
    rows = "3,2,30.5,4,5,6,1,-1,-1,-1\n1,1,10,20,6,4,1,-1,-1,-1\n\n2,1,11,20,6,4,0,-1,-1,-1\n1,2,1,2,3,4\n"
    (tmp_path / "MOT-01" / "gt").mkdir(parents=True)
    read = read_mot(written(tmp_path / "MOT-01" / "gt" / "gt.txt", rows), class_name="Drone")
    assert (read.name, read.class_name) == ("MOT-01", "drone")
    assert read.labels == (
        Label(0, Box(10, 20, 6, 4), 1, "drone"),
        Label(0, Box(1, 2, 3, 4), 2, "drone"),
        Label(2, Box(30.5, 4, 5, 6), 2, "drone"),
    )
    assert read_mot(written(tmp_path / "sky.txt", rows)).name == "sky"


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("1,1,10,20,6", "line 2: a row"),
        ("1,1,a,20,6,4", "line 2: a row"),
        ("0,1,10,20,6,4", "line 2: frame"),
        ("1.5,1,10,20,6,4", "line 2: frame"),
        ("nan,1,10,20,6,4", "line 2: a row"),
        ("1,1,10,20,-6,4", "line 2: box"),
    ],
)
def test_invalid_mot_row(tmp_path: Path, row: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        read_mot(written(tmp_path / "gt.txt", f"1,1,10,20,6,4,1\n{row}\n"))


def coco() -> dict[str, list[dict[str, object]]]:
    return {
        "videos": [{"id": 1, "name": "sky/A.mp4"}, {"id": 2, "name": "B"}],
        "categories": [{"id": 5, "name": "Drone"}, {"id": 6, "name": "bird"}],
        "images": [
            {"id": 10, "video_id": 1, "frame_id": 0},
            {"id": 11, "video_id": 1, "frame_id": 7},
            {"id": 12, "video_id": 2, "frame_index": 3},
        ],
        "annotations": [
            {"image_id": 11, "bbox": [1, 2, 3, 4.5], "category_id": 5, "track_id": 3},
            {"image_id": 10, "bbox": [0, 2, 3, 4], "category_id": 5, "instance_id": 3},
            {"image_id": 10, "bbox": [9, 9, 1, 1], "category_id": 6},
        ],
    }


def test_coco(tmp_path: Path) -> None:
    clips = read_coco(written(tmp_path / "labels.json", json.dumps(coco())))
    assert clips["A"].class_name == "drone"
    assert clips["A"].labels == (
        Label(0, Box(0, 2, 3, 4), 3, "drone"),
        Label(0, Box(9, 9, 1, 1), 0, "bird"),
        Label(7, Box(1, 2, 3, 4.5), 3, "drone"),
    )
    assert clips["B"] == ClipLabels("B", "", "", "", (), labelled=LabelledFrames(((3, 3),)))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda tables: tables.pop("videos"), "images, entry 0: 'file_name' is missing"),
        (lambda tables: tables["images"][0].pop("video_id"), "'video_id' is missing"),
        (
            lambda tables: tables["images"][0].pop("frame_id"),
            "images, entry 0: 'frame_index' is missing",
        ),
        (lambda tables: tables["annotations"][0].update(image_id=99), "annotations, entry 0: 99 is missing"),
        (lambda tables: tables["annotations"][1].update(bbox=[1, 2, 3]), "annotations, entry 1: not enough"),
        (lambda tables: tables["annotations"][1].update(bbox=[1, 2, 0, 3]), "annotations, entry 1: box"),
        (lambda tables: tables["annotations"][2].update(bbox=None), "annotations, entry 2: "),
        (lambda tables: tables.update(annotations=7), "COCO"),
    ],
)
def test_invalid_coco(tmp_path: Path, change: object, says: str) -> None:
    tables = coco()
    change(tables)  # type: ignore[operator]
    with pytest.raises(UserError, match=says) as caught:
        read_coco(written(tmp_path / "labels.json", json.dumps(tables)))
    assert "labels.json" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("read", [read_csv, read_mot, read_coco])
def test_unreadable_files(tmp_path: Path, read: object) -> None:
    with pytest.raises(UserError, match=r"cannot read .*no such file"):
        read(tmp_path / "missing")  # type: ignore[operator]
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(UserError, match="text"):
        read(tmp_path / "bytes")  # type: ignore[operator]


def test_invalid_json(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="COCO"):
        read_coco(written(tmp_path / "labels.json", "[1, 2"))


def test_real_dataset(shared: Path) -> None:
    clips = read_csv(shared / "drone" / "labels.csv")
    assert len(clips) == 418
    assert sum(len(clip.labels) for clip in clips.values()) == 135_980
    assert {clip.split for clip in clips.values()} == {"train", "val", "test"}
    first = clips["IR_AIRPLANE_001"]
    assert (first.class_name, first.modality, first.split) == ("airplane", "IR", "test")
    assert first.labels[1] == Label(1, Box(139.6, 79.4, 24.2, 15.3), 0, "airplane")
