"""Footage: selection of clips, and boxes on the right frames."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av", reason="av is not installed (canton-torch[track])")
cv2 = pytest.importorskip("cv2", reason="opencv is not installed (canton-torch[track])")

from canton.errors import UserError
from canton.track.boxes import Box
from canton.track.data.dataset import Clip, Footage
from canton.track.data.frame_cache import cache_frames, clip_problems
from track.videos import HEIGHT, WIDTH, noise, number, plain, write_video

LABELS = """clip,modality,class,frame,x,y,w,h
A,IR,DRONE,0,1,2,3,4
A,IR,BIRD,0,5,6,7,8
A,IR,DRONE,6,9,9,3,4
B,V,BIRD,2,1,2,3,4
C,V,DRONE,2,1,2,3,4
"""
SPLITS = "clip,split,place\nA,train,north\nB,train,south\nC,test,north\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips of ten frames: two videos and a folder of images."""
    folder = tmp_path_factory.mktemp("footage")
    (folder / "clips" / "C").mkdir(parents=True)
    write_video(folder / "clips" / "A.mp4", (plain(k) for k in range(10)))
    write_video(folder / "clips" / "B.mkv", (plain(k, 32, 32) for k in range(10)))
    for k in range(10):
        cv2.imwrite(str(folder / "clips" / "C" / f"{k}.png"), plain(k))
    (folder / "labels.csv").write_text(LABELS)
    (folder / "splits.csv").write_text(SPLITS)
    return folder


def test_attributes_of_a_clip(folder: Path) -> None:
    a, b, c = Footage(folder)
    assert (a.name, a.class_name, a.modality, a.split) == ("A", "drone", "IR", "train")
    assert (a.width, a.height) == (WIDTH, HEIGHT)
    assert (b.width, b.height) == (32, 32)
    assert a.boxes_by_frame == {0: (Box(1, 2, 3, 4), Box(5, 6, 7, 8)), 6: (Box(9, 9, 3, 4),)}
    assert a.classes_by_frame == {0: ("drone", "bird"), 6: ("drone",)}, (
        "what flies by is not what the clip is of"
    )
    assert c.path.is_dir()
    assert [number(frame.pixels) for frame in c.frames(None)] == list(range(10))


def test_frame_numbers_are_those_of_the_file(folder: Path) -> None:
    frames = list(Footage(folder)[0].frames(fps=5))
    assert [frame.index for frame in frames] == [0, 2, 4, 6, 8]
    assert [number(frame.pixels) for frame in frames] == [0, 2, 4, 6, 8]
    (gray,) = (frame for frame in Footage(folder)[0].frames(fps=5, gray=True) if frame.index == 6)
    assert gray.pixels.shape == (HEIGHT, WIDTH, 1)
    assert number(gray.pixels) == 6


def test_cached_clips_are_decoded_once_per_effective_width(folder: Path, tmp_path: Path) -> None:
    clips = list(Footage(folder))[:1]
    (slow,) = cache_frames(clips, fps=5.0, width=WIDTH, folder=tmp_path / "slow")
    assert [slow.classes_at(t) for t in range(5)] == [("drone", "bird"), (), (), ("drone",), ()], (
        "of 0, 2, 4 ..."
    )
    for width, files in ((WIDTH, 1), (10 * WIDTH, 1), (WIDTH // 2, 2)):
        (one,) = cache_frames(clips, fps=30.0, width=width, folder=tmp_path)
        assert one.frames.shape[:3] == (10, HEIGHT * min(width, WIDTH) // WIDTH, min(width, WIDTH))
        assert one.classes_at(0) == ("drone", "bird")
        assert one.classes_at(1) == ()
        assert one.classes_at(6) == ("drone",)
        assert one.boxes[0][1].width == 7 * min(width, WIDTH) / WIDTH
        assert len(list(tmp_path.glob("*.npy"))) == 2 * files, "frames, and their numbers"


def test_selection_of_clips(folder: Path) -> None:
    def names(**chosen: object) -> str:
        return "".join(clip.name for clip in Footage(folder, **chosen))  # type: ignore[arg-type]

    assert names() == "ABC"
    assert names(split="train") == "AB"
    assert names(split="north", split_column="place") == "AC"
    assert names(modality="V") == "BC"
    assert names(classes=["DRONE"]) == "AC"
    assert names(classes={"drone", "bird"}, modality="v", split="train") == "B"
    assert [clip.name for clip in Footage(folder)[1:]] == ["B", "C"]


@pytest.mark.parametrize(
    ("chosen", "says"),
    [
        ({"split": "tests"}, "split"),
        ({"modality": "X"}, "modality"),
        ({"classes": ["drone", "kite"]}, "class_name"),
        (
            {"classes": ["bird"], "split": "test"},
            "split=.*classes=",
        ),
        ({"classes": "drone"}, "classes"),
        ({"split_column": "fold"}, "fold"),
    ],
)
def test_selection_without_matches(folder: Path, chosen: dict[str, str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        Footage(folder, **chosen)  # type: ignore[arg-type]


def test_splits_must_not_share_a_place(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    place = tmp_path / "splits.csv"
    place.write_text("clip,split,scene\nA,train,hill\nB,val,hill\nC,test,sea\n")
    assert [clip.name for clip in Footage(tmp_path, split="test")] == ["C"]
    assert Footage(tmp_path, split="test")[0].columns["scene"] == "sea"
    for split in ("train", "val", None):
        with pytest.raises(UserError, match="scene hill is in train and val"):
            Footage(tmp_path, split=split)
    assert len(Footage(tmp_path, split="train", shared_val=True)) == 1
    place.write_text("clip,split,scene\nA,train,hill\nB,val,\nC,test,hill\n")
    for split in ("train", "test"):
        with pytest.raises(UserError, match="scene hill is in test and train"):
            Footage(tmp_path, split=split, shared_val=True)
    place.write_text("clip,split,split_scene,scene\nA,train,test,hill\nB,val,train,\nC,test,test,hill\n")
    assert [clip.name for clip in Footage(tmp_path, split="test")] == ["A", "C"], "split_scene comes first"
    with pytest.raises(UserError, match="hill"):
        Footage(tmp_path, split="test", split_column="split")


def test_test_places_of_the_data_set_are_in_no_other_split(shared: Path) -> None:
    test = Footage(shared / "drone", split="test")
    assert len(test) == 106
    places = {clip.columns["scene"] for clip in test}
    for split in ("train", "val"):
        other = Footage(shared / "drone", split=split, shared_val=True)
        assert not places & {clip.columns["scene"] for clip in other}
    with pytest.raises(UserError, match="scene"):
        Footage(shared / "drone", split="test", split_column="split")


def test_invalid_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a folder"):
        Footage(tmp_path / "missing")
    with pytest.raises(UserError, match="labels"):
        Footage(tmp_path)
    (tmp_path / "labels.csv").write_text(LABELS)
    write_video(tmp_path / "A.mp4", [plain(0)])
    with pytest.raises(UserError, match="2 of 3 clips, such as B"):
        Footage(tmp_path)
    assert len(Footage(tmp_path, modality="IR")) == 1
    (tmp_path / "labels.csv").write_text(LABELS.splitlines()[0])
    with pytest.raises(UserError, match="labelled clips"):
        Footage(tmp_path)


def test_unreadable_clip(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("clip,frame,x,y,w,h\nA,0,1,2,3,4\n")
    (tmp_path / "A.mp4").write_text("no video")
    (clip,) = Footage(tmp_path)
    with pytest.raises(UserError, match=r"A\.mp4"):
        next(clip.frames())
    with pytest.raises(UserError, match=r"A\.mp4"):
        _ = clip.width


def test_folder_with_mot_labels(tmp_path: Path) -> None:
    (tmp_path / "sky" / "gt").mkdir(parents=True)
    (tmp_path / "sky" / "img1").mkdir()
    (tmp_path / "sky" / "gt" / "gt.txt").write_text("3,1,10,20,6,4,1,-1,-1,-1\n")
    for k in range(1, 4):
        cv2.imwrite(str(tmp_path / "sky" / "img1" / f"{k:06}.png"), plain(k))
    (clip,) = Footage(tmp_path)
    assert (clip.name, clip.class_name, clip.split) == ("sky", "", "")
    (tmp_path / "splits.csv").write_text("clip,class,split\nsky,DRONE,val\n")
    (clip,) = Footage(tmp_path, split="val", classes=["drone"])
    assert clip.classes_at(2) == ("drone",), "MOT has no classes; splits.csv gives them"
    assert {number(f.pixels): clip.boxes_by_frame.get(f.index) for f in clip.frames(None)} == {
        1: None,
        2: None,
        3: (Box(10, 20, 6, 4),),
    }


def test_folder_with_coco_labels(tmp_path: Path) -> None:
    write_video(tmp_path / "A.mp4", [plain(0)])
    tables = {
        "videos": [{"id": 1, "name": "A.mp4"}],
        "categories": [{"id": 1, "name": "drone"}, {"id": 2, "name": "bird"}],
        "images": [{"id": 1, "video_id": 1, "frame_id": 0}, {"id": 2, "video_id": 1, "frame_id": 1}],
        "annotations": [
            {"image_id": 1, "category_id": 2, "bbox": [5, 6, 7, 8]},
            {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]},
            {"image_id": 2, "category_id": 1, "bbox": [1, 2, 3, 4]},
        ],
    }
    (tmp_path / "labels.json").write_text(json.dumps(tables))
    (clip,) = Footage(tmp_path, classes=["drone"])
    assert clip.boxes_by_frame == {0: (Box(5, 6, 7, 8), Box(1, 2, 3, 4)), 1: (Box(1, 2, 3, 4),)}
    assert clip.classes_by_frame == {0: ("bird", "drone"), 1: ("drone",)}
    with pytest.raises(UserError, match="split"):
        Footage(tmp_path, split="train")
    (tmp_path / "splits.csv").write_text("clip,split\nA,train\n")
    assert len(Footage(tmp_path, split="train")) == 1


def test_classes_of_a_clip_made_by_hand(folder: Path, tmp_path: Path) -> None:
    boxes = {0: (Box(1, 2, 3, 4), Box(5, 6, 7, 8))}
    film = folder / "clips" / "A.mp4"
    (one,) = cache_frames([Clip("A", film, "drone", "", "", boxes)], fps=30.0, width=WIDTH, folder=tmp_path)
    assert one.classes_at(0) == ("drone", "drone"), "all are the clip's where nothing else is said"
    with pytest.raises(UserError, match="classes_by_frame"):
        Clip("A", film, "drone", "", "", boxes, {0: ("drone",)})


def test_resizing_keeps_at_least_one_row(tmp_path: Path) -> None:
    (tmp_path / "A").mkdir()
    cv2.imwrite(str(tmp_path / "A" / "0.png"), np.zeros((1, 600, 3), np.uint8))
    (one,) = cache_frames(
        [Clip("A", tmp_path / "A", "", "", "", {})], fps=10.0, width=64, folder=tmp_path / "kept"
    )
    assert one.frames.shape == (1, 1, 64, 1)


def test_incomplete_cache_entries_are_decoded_again(tmp_path: Path) -> None:
    clips = [Clip("A", write_video(tmp_path / "A.mp4", [plain(k) for k in range(5)]), "", "", "", {})]
    first = cache_frames(clips, fps=10.0, width=WIDTH, folder=tmp_path / "kept")
    (problem_file,) = (tmp_path / "kept").glob("*.problem.txt")
    problem_file.unlink()
    (again,) = cache_frames(clips, fps=10.0, width=WIDTH, folder=tmp_path / "kept")
    assert problem_file.read_bytes() == b""
    assert again.problem is None
    assert np.array_equal(again.frames, first[0].frames)


def test_truncated_clip_reports_its_problem_every_time(tmp_path: Path) -> None:
    path = write_video(tmp_path / "A.mp4", noise(40), options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    whole = write_video(tmp_path / "B.mp4", (plain(k) for k in range(5)))
    clips = [Clip(film.stem, film, "drone", "", "", {}) for film in (path, whole)]
    for _ in range(2):  # the second time nothing is decoded
        broken, fine = cache_frames(clips, fps=10.0, width=WIDTH, folder=tmp_path / "kept")
        assert 5 <= len(broken.frames) < 40
        assert broken.problem is not None
        assert "A.mp4 ends early after" in broken.problem
        assert fine.problem is None
        assert clip_problems([broken, fine]) == [f"{broken.problem}; the frames before are used"]


def test_check_labelled(folder: Path) -> None:
    Footage(folder, classes=["drone"]).check_labelled("bird")  # it crosses A
    with pytest.raises(UserError, match="kite"):
        Footage(folder).check_labelled("kite")


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("A,IR,DRONE,10,1,2,3,4", "line 7: frame must be < 10"),
        ("A,IR,DRONE,9,64,2,3,4", "line 7: box must lie in the picture"),
        ("A,IR,DRONE,9,1,-20,3,4", "line 7: box must lie in the picture"),
        ("A.mp4,IR,DRONE,9,1,2,3,4", "line 7: clip must be named without a suffix, A, got A.mp4"),
    ],
)
def test_labels_that_cannot_be_the_videos(folder: Path, tmp_path: Path, row: str, says: str) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    Footage(tmp_path).check("drone")
    with (tmp_path / "labels.csv").open("a") as file:
        file.write(row)
    with pytest.raises(UserError, match=says) as caught:
        Footage(tmp_path).check()
    assert "labels.csv" in str(caught.value)


def test_relative_values_and_missing_classes(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "labels.csv").write_text("clip,frame,x,y,w,h\nA,0,0.5,0.5,0.1,0.1\nA,1,0.5,0.4,0.1,0.1\n")
    with pytest.raises(UserError, match="line 2: boxes of A must be in px"):
        Footage(tmp_path).check()
    (tmp_path / "labels.csv").write_text("clip,frame,x,y,w,h\nA,0,5,5,1,1\n")
    Footage(tmp_path).check()
    with pytest.raises(UserError, match="boxes without a class"):
        Footage(tmp_path).check("drone")


def test_frames_that_nobody_labelled(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "splits.csv").write_text("clip,split,labelled,every\nA,train,0-5,2\nB,train,,\n")
    a, b, _ = Footage(tmp_path)
    assert [k for k in range(10) if a.labelled.has(k)] == [0, 2, 4]
    first, second = cache_frames([a, b], fps=5.0, width=WIDTH, folder=tmp_path / "kept")
    assert first.labelled is not None
    assert first.labelled.tolist() == [True, True, True, False, False], "of frames 0, 2, 4, 6, 8"
    assert second.labelled is None


def test_real_dataset(shared: Path) -> None:
    with (shared / "drone" / "splits.csv").open() as file:
        rows = {row["clip"]: row for row in csv.DictReader(file)}
    footage = Footage(shared / "drone", split="test", modality="IR")
    wanted = [n for n, row in rows.items() if row["split_scene"] == "test" and row["modality"] == "IR"]
    assert [clip.name for clip in footage] == sorted(wanted)
    clip = next(clip for clip in footage if clip.class_name == "drone")
    frames = list(clip.frames(fps=10))
    row = rows[clip.name]
    assert len(frames) == -(-int(row["frames"]) // 3)
    assert frames[1].index == 3
    assert (clip.width, clip.height) == (float(row["width"]), float(row["height"]))


@pytest.mark.parametrize("modality", ["IR", "V"])
def test_real_boxes_lie_on_objects(shared: Path, modality: str) -> None:
    """Brightness varies more inside a drone's box than three widths away."""
    contrast = {0.0: 0.0, 3.0: 0.0}
    for clip in Footage(shared / "drone", split="test", modality=modality, classes=["drone"])[::4]:
        for frame in clip.frames(fps=0.5, gray=True):
            image = frame.pixels[..., 0].astype(float)
            for box in clip.boxes_by_frame.get(frame.index, ()):
                for shift in contrast:
                    contrast[shift] += _spread(image, box, shift)
    assert contrast[0.0] > 1.5 * contrast[3.0]


def _spread(image: np.ndarray, box: Box, shift: float) -> float:
    """Return the range of brightness in the box, moved by a number of its widths."""
    side = shift * box.width * (1 if box.centre[0] < image.shape[1] / 2 else -1)
    left, top = round(box.x + side), round(box.y)
    return float(image[max(top, 0) : round(top + box.height) + 1, left : round(left + box.width) + 1].std())
