"""`canton track labels`: conversion, what the format leaves unsaid, and bad input."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("av", reason="av is not installed (canton-torch[track])")

from canton.track.data.formats.registry import read_labels
from cli.conftest import Canton


def test_conversion(canton: Canton, tmp_path: Path) -> None:
    """YOLO to csv, with key frames of every fourth frame filled; csv to COCO and to MOT."""
    source = tmp_path / "in"
    source.mkdir()
    for k in (1, 5, 9):
        (source / f"sky_{k:04}.txt").write_text(f"1 {k / 20} 0.5 0.1 0.2\n")
    words = ("--to", "csv", "--size", "200x100", "--names", "bird,Drone", "--first-frame", "1")
    done = canton("track", "labels", source, *words, "--out", tmp_path / "csv", "--interpolate", "linear")
    assert done.status == 0
    assert "9 boxes (drone)" in done.out
    clip = read_labels(tmp_path / "csv")["sky"]
    assert [label.frame for label in clip.labels] == list(range(9))
    assert clip.labels[2].box.centre == pytest.approx((30, 50))
    for to in ("coco", "mot"):
        assert canton("track", "labels", tmp_path / "csv", "--to", to, "--out", tmp_path / to).status == 0
        again = read_labels(tmp_path / to)["sky"]
        assert [label.box for label in again.labels] == [label.box for label in clip.labels]
    words = ("--to", "csv", "--out", tmp_path / "csv", "--split", "train", "--append", "--clip", "sea")
    other = tmp_path / "sea.txt"
    other.write_text("1,1,2,3,4,5\n")
    (tmp_path / "csv" / "splits.csv").write_text("clip,split,place\nsky,test,hill\n")
    assert canton("track", "labels", other, *words).status == 0
    both = read_labels(tmp_path / "csv")
    assert {name: one.split for name, one in both.items()} == {"sky": "test", "sea": "train"}
    assert (both["sky"].columns["place"], len(both["sky"].labels)) == ("hill", 9)
    words = ("--to", "csv", "--size", "200x100", "--names", "bird,Drone", "--first-frame", "1")
    every = ("--every", "4", "--labelled", "0-8")
    assert canton("track", "labels", source, *words, "--out", tmp_path / "few", *every).status == 0
    few = read_labels(tmp_path / "few")["sky"].labelled
    assert [k for k in range(12) if few.has(k)] == [0, 4, 8]


def test_bad_input_is_one_line(canton: Canton, tmp_path: Path) -> None:
    good = tmp_path / "labels.csv"
    good.write_text("clip,frame,x,y,w,h\nA,0,1,2,3,4\n")
    out = ("--out", tmp_path / "out")
    for words, said in [
        ((good, "--to", "yolo", *out), "--to"),
        ((good, "--to", "csv", "--from", "kitti", *out), "kitti"),
        ((good, "--to", "csv", "--size", "0x5", *out), "--size"),
        ((good, "--to", "csv", "--every", "0", *out), "every"),
        ((good, "--to", "csv", "--labelled", "9-1", *out), "labelled"),
        ((good, "--to", "csv", "--interpolate", "cubic", *out), "cubic"),
        ((good, "--to", "csv", "--max-gap", "1", *out), "--max-gap"),
        ((good, "--to", "csv", "--first-frame", "-1", *out), "--first-frame"),
        ((good, "--to", "csv", "--out", good), "--out"),
        ((good, "--to", "csv", "--out", tmp_path), "--append"),
        ((good, "--to", "coco", "--append", *out), "--append"),
        ((tmp_path / "none.csv", "--to", "csv", *out), "none.csv"),
        ((tmp_path, "--to", "mot", "--from", "cvat", *out), "cannot read"),
    ]:
        assert said in canton.complains("track", "labels", *words), words
