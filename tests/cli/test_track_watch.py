"""`canton track watch`: outputs, messages and errors."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("av", reason="av is not installed (canton-torch[track])")
pytest.importorskip("cv2", reason="opencv is not installed (canton-torch[track])")
pytest.importorskip("trackers", reason="trackers is not installed (canton-torch[track])")

from canton.cli.models import PRETRAINED, TRACK_MODELS
from canton.track.video.writer import VideoWriter
from canton.training.checkpoint import Checkpoint
from cli.conftest import Canton, disk_of
from track.pipeline_stub import HEIGHT, WIDTH, Bright, flight


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty frames at 10 fps of a square that moves right."""
    path = tmp_path_factory.mktemp("video") / "flight.mp4"
    with VideoWriter(path, WIDTH, HEIGHT, 10) as writer:
        for frame in flight(30):
            writer.write(frame.pixels)
    return path


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def frames_in(path: Path) -> int:
    import av

    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_every_output(canton: Canton, bright: Path, video: Path, tmp_path: Path) -> None:
    from canton.track.data.formats.mot import read_mot

    out, lines, rows = tmp_path / "out.mp4", tmp_path / "seen.jsonl", tmp_path / "gt.txt"
    done = canton("track", "watch", bright, video, "--out", out, "--json", lines, "--csv", rows)
    assert done.status == 0, done.err
    assert re.search(r"30 frames in [\d.]+ s, \d+ frames/s, latency [\d.]+ ms; 1 track; wrote ", done.out)
    assert frames_in(out) == 30
    seen = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [frame["frame"] for frame in seen] == list(range(30))
    assert seen[10]["seconds"] == pytest.approx(1.0, abs=0.02)
    for k, frame in enumerate(seen[1:], 1):
        (track,) = frame["tracks"]
        assert track["id"] == 1
        assert track["centre"] == pytest.approx([8 + 2 * k, 30], abs=1.5)
        assert track["box"][2:] == [8, 8]
        assert track["age"] == k + 1
        assert frame["peaks"][0]["centre"] == track["centre"]
        assert 0.4 < frame["max_score"] <= 1
    labels = read_mot(rows).labels
    assert [label.frame for label in labels] == list(range(1, 30))
    assert {label.track for label in labels} == {1}
    assert labels[9].box.centre == pytest.approx((28, 30), abs=1.5)


def test_on_standard_output(canton: Canton, bright: Path, video: Path) -> None:
    done = canton("track", "watch", "--model", bright, video, "--json", "-")
    assert done.status == 0
    assert [json.loads(line)["frame"] for line in done.out.splitlines()] == list(range(30))
    assert "30 frames in" in done.err
    done = canton("track", "watch", bright, video, "--csv", "-")
    assert len(done.out.splitlines()) == 29


def test_fps(canton: Canton, bright: Path, video: Path) -> None:
    done = canton("track", "watch", bright, video, "--fps", "5", "--json", "-")
    seen = [json.loads(line) for line in done.out.splitlines()]
    assert len(seen) == 15
    assert seen[5]["seconds"] == pytest.approx(1.0, abs=0.05)


def test_threshold(canton: Canton, bright: Path, video: Path) -> None:
    done = canton("track", "watch", bright, video, "--threshold", "1", "--csv", "-")
    assert done.out == ""


def test_live_without_a_terminal_prints_lines(canton: Canton, bright: Path, video: Path) -> None:
    done = canton("track", "watch", bright, video, "--live")
    assert done.status == 0
    assert canton("track", "watch", bright, video, "--live", "--quiet").err == ""


def test_a_real_model_from_a_file(canton: Canton, video: Path, tmp_path: Path) -> None:
    from canton.track.checkpoint import save_model
    from canton.track.model import Architecture, TrackModel

    path = tmp_path / "model.safetensors"
    save_model(path, TrackModel(Architecture(stem=((4, 3, True), (4, 3, True)), memory=4)), {})
    done = canton("track", "watch", path, video, "--json", "-")
    assert done.status == 0, done.err
    assert len(done.out.splitlines()) == 30


def test_a_model_for_text(canton: Canton, model: Path, video: Path, tmp_path: Path) -> None:
    line = canton.complains("track", "watch", model, video, "--json", tmp_path / "seen")
    assert "canton-track" in line
    assert listing(tmp_path) == []


def test_no_pretrained_model(canton: Canton, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TRACK_MODELS:
        monkeypatch.setitem(PRETRAINED, name, "models/none.safetensors")
    assert "pretrained" in canton.complains("track", "watch", video)


@pytest.mark.parametrize(("coloured", "name"), [(True, "visible"), (False, "infrared")])
def test_the_default_model_depends_on_the_colour_of_the_video(
    canton: Canton, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, coloured: bool, name: str
) -> None:
    """Gray video uses the infrared model."""
    film = tmp_path / "film.mp4"
    with VideoWriter(film, WIDTH, HEIGHT, 10) as writer:
        for frame in flight(4):
            grey = frame.pixels.mean(-1, keepdims=True).astype(np.uint8).repeat(3, -1)
            grey[..., 2] += 12 * coloured
            writer.write(grey)
    opened = []

    def load(path: Path) -> SimpleNamespace:
        opened.append(path.name)
        return SimpleNamespace(model=Bright(), header={"threshold": 0.4}, checkpoint=None)

    monkeypatch.setattr("canton.track.checkpoint.load_model", load)
    done = canton("track", "watch", film)
    assert done.status == 0, done.err
    assert f"pretrained model {name}" in done.out
    other = "infrared" if coloured else "visible"
    done = canton("track", "watch", other, film)
    assert "pretrained" not in done.out
    assert opened == [f"{name}.safetensors", f"{other}.safetensors"], "a name selects the other"


@pytest.mark.parametrize("option", ["--out", "--json", "--csv"])
def test_an_output_that_cannot_be_written(
    option: str, canton: Canton, bright: Path, video: Path, tmp_path: Path
) -> None:
    words = ("track", "watch", bright, video, option)
    assert "no such file or folder" in canton.complains(*words, tmp_path / "none" / "out")
    assert "is a directory" in canton.complains(*words, tmp_path)
    assert f"{option} must not be an input" in canton.complains(*words, video)
    assert listing(tmp_path) == []
    assert frames_in(video) == 30


def test_invalid_arguments(canton: Canton, bright: Path, video: Path, tmp_path: Path) -> None:
    watch = ("track", "watch")
    assert "two models" in canton.complains(*watch, "--model", bright, bright, video)
    assert f"got 2 films, the first {video}" in canton.complains(*watch, video, bright)
    assert "--out-dir" in canton.complains(*watch, bright, video, video)
    assert "no films" in canton.complains(*watch)
    for words in (("--video",), ("--skip-done",), ("--shard", "1/2"), ("--workers", "2")):
        assert f"{words[0]} needs --out-dir" in canton.complains(*watch, bright, video, *words)
    assert "--reconnect" in canton.complains(*watch, bright, video, "--reconnect", "-1")
    assert "--device" in canton.complains(*watch, bright, video, "--device", "abacus")
    assert "--threshold" in canton.complains(*watch, bright, video, "--threshold", "2")
    assert "--fps" in canton.complains(*watch, bright, video, "--fps", "0")
    same = tmp_path / "same"
    assert "twice" in canton.complains(*watch, bright, video, "--json", same, "--csv", same)
    assert "cannot both be -" in canton.complains(*watch, bright, video, "--json", "-", "--csv", "-")
    assert "--out must be a file" in canton.complains(*watch, bright, video, "--out", "-")
    assert "not_there.mp4" in canton.complains(*watch, bright, "not_there.mp4", "--json", same)
    assert listing(tmp_path) == []


def test_no_video(canton: Canton, bright: Path, tmp_path: Path) -> None:
    for content in (b"", b"This is no video. " * 100):
        path = tmp_path / "video.mp4"
        path.write_bytes(content)
        canton.complains(
            "track", "watch", bright, path, "--json", tmp_path / "seen", "--out", tmp_path / "out.mp4"
        )
        assert listing(tmp_path) == ["video.mp4"]


def test_a_truncated_video_keeps_earlier_results(canton: Canton, bright: Path, tmp_path: Path) -> None:
    import av

    broken, lines, out = tmp_path / "broken.mp4", tmp_path / "seen", tmp_path / "out.mp4"
    with av.open(
        str(broken), "w", options={"movflags": "faststart"}
    ) as container:  # the header states the number of frames
        stream = container.add_stream("libx264", rate=10, options={"g": "5"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for frame in flight(60):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame.pixels, format="rgb24")))
        container.mux(stream.encode(None))
    content = broken.read_bytes()
    broken.write_bytes(content[: len(content) * 2 // 3])
    done = canton("track", "watch", bright, broken, "--json", lines, "--out", out, "--quiet")
    assert done.status == 2
    assert done.err.count("\n") == 1
    assert "ends early" in done.err
    seen = len(lines.read_text().splitlines())
    assert 5 <= seen < 60
    assert frames_in(out) == seen


def test_a_video_that_changes_its_size(canton: Canton, bright: Path, tmp_path: Path) -> None:
    """Pictures keep their names and numbers; the annotated video keeps its size."""
    import cv2

    folder, lines, out = tmp_path / "pictures", tmp_path / "seen", tmp_path / "out.mp4"
    folder.mkdir()
    for frame in flight(12):
        pixels = frame.pixels if frame.index < 8 else frame.pixels[:48, :80]
        cv2.imwrite(str(folder / f"p{frame.index + 5 + 3 * (frame.index > 5)}.png"), pixels)
    (folder / "p7.png").write_bytes(b"broken")
    done = canton("track", "watch", bright, folder, "--json", lines, "--out", out, "--fps", "10")
    assert done.status == 0, done.err
    assert "p7.png" in done.err
    assert "1 damaged frame" in done.err
    seen = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [(frame["frame"], frame["file"]) for frame in seen] == [
        (k - 5, f"p{k}.png") for k in (5, 6, 8, 9, 10, 14, 15, 16, 17, 18, 19)
    ]
    assert [frame["seconds"] for frame in seen] == [frame["frame"] / 10 for frame in seen]
    assert [frame["frame"] for frame in seen if frame["cut"]] == [0, 11]
    assert frames_in(out) == 11


def test_a_full_disk(canton: Canton, bright: Path, video: Path, tmp_path: Path) -> None:
    for option, limit in (("--json", 2000), ("--csv", 500), ("--out", 4000)):
        with disk_of(limit):
            done = canton("track", "watch", bright, video, option, tmp_path / "x.mp4", "--quiet")
        assert done.status == 2, option
        assert done.err.count("\n") == 1, done.err
        assert "x.mp4" in done.err
        if option != "--out":
            kept = (tmp_path / "x.mp4").read_text()
            assert kept.endswith("\n"), "the last line is complete"
            assert limit - 300 < len(kept) <= limit
        (tmp_path / "x.mp4").unlink(missing_ok=True)
        assert listing(tmp_path) == []


INTERRUPTED = """
import sys, time
from types import SimpleNamespace
import canton.track.checkpoint
from track.pipeline_stub import Bright
from canton.cli import main

class Slow(Bright):
    def step(self, frame, state):
        time.sleep(0.05)
        if self.steps == 9:
            print("under way", flush=True)
        return super().step(frame, state)

canton.track.checkpoint.load_model = lambda path: SimpleNamespace(model=Slow(), header={}, checkpoint=None)
sys.exit(main(["track", "watch", "m", *sys.argv[1:]]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_ctrl_c_keeps_complete_outputs(
    number: signal.Signals, root: Path, video: Path, tmp_path: Path
) -> None:
    out, lines, rows = (tmp_path / name for name in ("out.mp4", "seen.jsonl", "gt.txt"))
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, video, "--out", out, "--json", lines, "--csv", rows],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root / "tests"), str(root / "src")])},
    )
    assert process.stdout is not None
    begun = process.stdout.readline()
    assert begun == "under way\n", process.communicate(timeout=30)
    process.send_signal(number)
    said, complaint = process.communicate(timeout=30)
    assert process.returncode == 130, complaint
    assert "Traceback" not in complaint
    seen = [json.loads(line) for line in lines.read_text().splitlines()]
    assert 9 <= len(seen) < 30
    assert f"{len(seen)} frames in" in said
    assert frames_in(out) == len(seen)
    assert int(rows.read_text().splitlines()[-1].split(",")[0]) == len(seen)
    assert listing(tmp_path) == ["gt.txt", "out.mp4", "seen.jsonl"]


def test_an_unfinished_run_is_reported(
    canton: Canton, bright: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = canton("track", "watch", bright, video)
    assert "finished" not in finished.err
    held = SimpleNamespace(model=Bright(), header={"threshold": 0.4}, checkpoint=Checkpoint({}, 7, 1.0))
    monkeypatch.setattr("canton.track.checkpoint.load_model", lambda path: held)
    done = canton("track", "watch", bright, video)
    assert done.status == 0, done.err
    assert "unfinished run (step 7)" in done.err
    assert f"--resume --out {bright}" in done.err
