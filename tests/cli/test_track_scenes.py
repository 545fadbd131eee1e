"""`canton track scenes`: a folder that `Footage` reads, written in one run or in several."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from conftest import Canton

pytest.importorskip("cv2", reason="opencv is not installed (canton-torch[track])")
pytest.importorskip("av", reason="av is not installed (canton-torch[track])")

SMALL = ("--frames", "4", "--size", "48", "--seed", "3", "-q")


def test_footage_reads_the_folder(canton: Canton, tmp_path: Path) -> None:
    from canton.track.data.dataset import Footage
    from canton.track.synthetic.dataset import Scenes

    done = canton("track", "scenes", "--out", tmp_path / "a", "--clips", "12", *SMALL)
    assert done.status == 0, done
    assert "12 clips of 4 frames" in done.out
    footage = Footage(tmp_path / "a")
    assert len(footage) == 12
    assert len(Footage(tmp_path / "a", split="test")) == 1
    for clip, scene in zip(footage, Scenes(3, 12, frames=4, size=48), strict=True):
        assert (clip.width, clip.height) == (48, 48)
        assert (clip.class_name == "drone") == scene.present
        frames = list(clip.frames(fps=10.0))
        assert len(frames) == 4
        apart = np.abs(frames[2].pixels.astype(float) - scene.frames[2]).mean()
        assert apart < 30  # as lossy as video is
        for t, things in enumerate(scene.labelled_boxes("drone")):
            assert clip.classes_at(t) == tuple(kind for kind, _ in things)
            for box, (_, true) in zip(clip.boxes_by_frame.get(t, ()), things, strict=True):
                np.testing.assert_allclose(box, true, atol=0.01)
    kinds = {
        kind
        for clip in footage
        if clip.class_name == "drone"
        for t in range(4)
        for kind in clip.classes_at(t)
    }
    assert kinds > {"drone"}, "what else flies in a clip of a drone is labelled too"


def test_interrupted_run_continues(canton: Canton, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    canton("track", "scenes", "--out", whole, "--clips", "6", *SMALL)
    canton("track", "scenes", "--out", parts, "--clips", "4", *SMALL)
    with (parts / "labels.csv").open("a") as file:  # as a kill in mid-line leaves it
        file.write("scene_000004,V,DRONE,0,1.0,2.")
    (parts / "clips" / "scene_000003.mp4").unlink()
    done = canton("track", "scenes", "--out", parts, "--clips", "6", *SMALL)
    assert "6 clips (3 from before)" in done.out
    for name in ("labels.csv", "splits.csv"):
        assert (parts / name).read_text() == (whole / name).read_text(), name
    assert sorted(p.name for p in (parts / "clips").iterdir()) == sorted(
        p.name for p in (whole / "clips").iterdir()
    )
    with (whole / "splits.csv").open() as file:
        assert len(list(csv.reader(file))) == 7


def test_failed_write_leaves_no_partial_clip(
    canton: Canton, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from canton.track.video import writer

    written = writer.VideoWriter.write
    count = 0

    def interrupted(self: writer.VideoWriter, pixels: np.ndarray) -> None:
        nonlocal count
        count += 1
        if count == 10:
            raise KeyboardInterrupt
        written(self, pixels)

    monkeypatch.setattr(writer.VideoWriter, "write", interrupted)
    assert canton("track", "scenes", "--out", tmp_path / "a", "--clips", "6", *SMALL).status == 130
    assert sorted(p.name for p in (tmp_path / "a" / "clips").iterdir()) == [
        "scene_000000.mp4",
        "scene_000001.mp4",
    ]
    assert (
        "3 from before" not in canton("track", "scenes", "--out", tmp_path / "a", "--clips", "6", *SMALL).out
    )


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--clips", "0"), "count"),
        (("--frames", "0"), "frames"),
        (("--size", "12x"), "size"),
        (("--size", "16"), "size"),
        (("--kind", "night"), "kind"),
        (("--seed", "-4"), "seed"),
        (("--workers", "-1"), "workers"),
        (("--target-class", "ufo"), "target_class"),
        (("--backgrounds", "no/such/folder"), "backgrounds"),
    ],
)
def test_bad_input_is_one_line(
    canton: Canton, tmp_path: Path, words: tuple[str, str], complaint: str
) -> None:
    assert complaint in canton.complains("track", "scenes", "--out", tmp_path / "a", *words)
    assert not (tmp_path / "a").exists()


def test_invalid_output_folders(canton: Canton, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot write" in canton.complains("track", "scenes", "--out", tmp_path / "file")
    canton("track", "scenes", "--out", tmp_path / "a", "--clips", "1", *SMALL)
    again = ("track", "scenes", "--out", tmp_path / "a", "--clips", "1", "-q", "--size", "48")
    assert "seed" in canton.complains(*again, "--frames", "4")
    settings = tmp_path / "a" / "scenes.json"
    settings.write_text(settings.read_text().replace("target_class", "target"))  # the name of older versions
    assert "must have target_class" in canton.complains(*again, "--frames", "4")
    (tmp_path / "labels.csv").write_text("mine")
    assert "labels.csv" in canton.complains("track", "scenes", "--out", tmp_path, "--clips", "1")
    assert (tmp_path / "labels.csv").read_text() == "mine"
