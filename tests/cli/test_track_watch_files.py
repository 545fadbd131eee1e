"""`canton track watch`: output files, also when it is interrupted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av", reason="av is not installed (canton-torch[track])")
pytest.importorskip("cv2", reason="opencv is not installed (canton-torch[track])")
pytest.importorskip("trackers", reason="trackers is not installed (canton-torch[track])")

from cli.conftest import Canton, disk_of
from track.pipeline_stub import flight
from track.videos import write_video


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty frames at 10 fps of two squares that move right."""
    pictures = [frame.pixels | np.roll(frame.pixels, 20, axis=0) for frame in flight(30)]
    return write_video(tmp_path_factory.mktemp("video") / "flight.mp4", pictures)


def moments(path: Path) -> list[float]:
    """Return the presentation times of a video in seconds."""
    with av.open(str(path)) as container:
        return [frame.time for frame in container.decode(video=0)]


def test_the_annotated_video_keeps_uneven_times(canton: Canton, bright: Path, tmp_path: Path) -> None:
    times = [0, 40, 80, 120, 400, 440, 1500, 1540, 2900, 2940, 3333, 6000, 6040]
    write_video(tmp_path / "uneven.mkv", [frame.pixels for frame in flight(len(times))], times=times)
    done = canton("track", "watch", bright, tmp_path / "uneven.mkv", "--out", tmp_path / "out.mp4")
    assert done.status == 0, done.err
    assert moments(tmp_path / "out.mp4") == pytest.approx([time / 1000 for time in times], abs=1e-3)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.duration / av.time_base == pytest.approx(6.08, abs=0.01)


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "aac"), ("a.mkv", "pcm_s16le"), ("a.ts", "mp2")])
def test_the_annotated_video_keeps_sound_and_aspect(
    canton: Canton, bright: Path, tmp_path: Path, name: str, codec: str
) -> None:
    """The sound is copied or encoded again, and stays at its time."""
    source, out = tmp_path / name, tmp_path / "out.mp4"
    with av.open(str(source), "w") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        video.codec_context.sample_aspect_ratio = Fraction(4, 3)
        sound = container.add_stream(codec, rate=44100, layout="mono")
        resampler = av.AudioResampler(sound.format, "mono", 44100, frame_size=sound.frame_size or 1024)
        loud = np.zeros(88200, np.float32)
        loud[44100:48510] = 0.5 * np.sin(np.arange(4410) / 5)
        wave = av.AudioFrame.from_ndarray(loud[None], format="fltp", layout="mono")
        wave.sample_rate, wave.pts = 44100, 0
        for part in resampler.resample(wave):
            container.mux(sound.encode(part))
        for frame in flight(20):
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame.pixels, format="rgb24")))
        for stream in (sound, video):
            container.mux(stream.encode(None))
    done = canton("track", "watch", bright, source, "--out", out)
    assert done.status == 0, done.err
    with av.open(str(out)) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)
        heard = [
            (float(frame.time), float(np.abs(frame.to_ndarray()).max()))
            for frame in container.decode(audio=0)
        ]
    assert heard[-1][0] > 1.7
    times = [seconds for seconds, volume in heard if volume > 0.2]
    assert times[0] == pytest.approx(1.0, abs=0.08)
    assert times[-1] == pytest.approx(1.1, abs=0.08)
    assert len(moments(out)) == 20


def test_the_annotated_video_keeps_a_constant_rate(canton: Canton, bright: Path, tmp_path: Path) -> None:
    source, out = (
        write_video(tmp_path / "even.mp4", [frame.pixels for frame in flight(30)]),
        tmp_path / "out.mp4",
    )
    for words, fps in ((), 10), (("--fps", "5"), 5):
        done = canton("track", "watch", bright, source, "--out", out, *words)
        assert done.status == 0, done.err
        assert moments(out) == pytest.approx([k / fps for k in range(3 * fps)], abs=1e-4)
        with av.open(str(out)) as container:
            assert container.streams.video[0].average_rate == fps
            assert container.duration / av.time_base == pytest.approx(3, abs=1e-3)


def test_a_full_disk_leaves_complete_lines(canton: Canton, bright: Path, video: Path, tmp_path: Path) -> None:
    out, lines, rows = (tmp_path / name for name in ("out.mp4", "seen.jsonl", "gt.txt"))
    with disk_of(28_000):
        done = canton("track", "watch", bright, video, "--out", out, "--json", lines, "--csv", rows, "-q")
    assert done.status == 2
    assert done.err == f"canton: cannot write {out}: file too large\n"
    seen = [json.loads(line)["frame"] for line in lines.read_text().splitlines()]
    assert 10 <= len(seen) < 30
    assert seen == list(range(len(seen)))
    assert rows.read_text().endswith("\n")
    assert len(rows.read_text().splitlines()) == 2 * (len(seen) - 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gt.txt", "out.mp4", "seen.jsonl"]
    kept = moments(out)
    assert 10 <= len(kept) <= len(seen)
    assert kept == pytest.approx([k / 10 for k in range(len(kept))]), "it plays to the end"


@pytest.mark.parametrize("option", ["--out", "--json", "--csv"])
def test_existing_outputs_are_kept_if_nothing_can_be_written(
    canton: Canton,
    bright: Path,
    video: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    option: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    older = Path("older.mp4")
    assert canton("track", "watch", bright, video, option, older).status == 0
    content = older.read_bytes()
    with disk_of(60):  # space for standard error, a file in this test
        done = canton("track", "watch", bright, video, option, older, "-q")
    assert done.status == 2
    assert done.err == "canton: cannot write older.mp4: file too large\n"
    assert older.read_bytes() == content
    assert list(Path().iterdir()) == [older]
    assert canton("track", "watch", bright, video, option, older, "--fps", "5").status == 0
    assert older.read_bytes() != content
    assert list(Path().iterdir()) == [older]


def test_an_invalid_video_output_keeps_existing_lines(
    canton: Canton, bright: Path, video: Path, tmp_path: Path
) -> None:
    lines = tmp_path / "seen.jsonl"
    lines.write_text("earlier work\n")
    words = ("--json", lines, "--out", tmp_path / "seen.avi", "-q")
    assert ".mp4" in canton.complains("track", "watch", bright, video, *words)
    assert lines.read_text() == "earlier work\n"


def test_a_very_high_frame_rate(canton: Canton, bright: Path, tmp_path: Path) -> None:
    source = write_video(tmp_path / "fast.mp4", [frame.pixels for frame in flight(12)], fps=2000)
    done = canton("track", "watch", bright, source, "--out", tmp_path / "out.mp4", "-q")
    assert done.status == 0, done.err
    assert len(moments(tmp_path / "out.mp4")) == 12


def test_no_tracks_give_an_empty_file(
    canton: Canton, bright: Path, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if a file with tracks exists, but not if the command fails."""
    monkeypatch.chdir(tmp_path)
    rows = Path("gt.txt")
    rows.write_text("an older result\n")
    with disk_of(60):
        done = canton("track", "watch", bright, video, "--threshold", "1", "--csv", rows, "--json", "seen")
    assert done.status == 2
    assert rows.read_text() == "an older result\n"
    assert canton("track", "watch", bright, video, "--threshold", "1", "--csv", rows).status == 0
    assert rows.read_text() == ""


def test_json_into_a_pipe(canton: Canton, bright: Path, video: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert canton("track", "watch", bright, video, "--json", pipe).status == 0
        said = os.read(reader, 1 << 16).decode()
    finally:
        os.close(reader)
    assert [json.loads(line)["frame"] for line in said.splitlines()] == list(range(30))
    assert pipe.is_fifo()


KILLED = """
import os, signal, sys
from types import SimpleNamespace
import canton.track.checkpoint
from track.pipeline_stub import Bright
from canton.cli import main

class Kills(Bright):
    def step(self, frame, state):
        if self.steps == 15:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(frame, state)

canton.track.checkpoint.load_model = lambda path: SimpleNamespace(model=Kills(), header={}, checkpoint=None)
sys.exit(main(["track", "watch", "m", *sys.argv[1:]]))
"""


def test_a_kill_leaves_every_line(root: Path, video: Path, tmp_path: Path) -> None:
    lines, rows = tmp_path / "seen.jsonl", tmp_path / "gt.txt"
    paths = os.pathsep.join([str(root / "tests"), str(root / "src")])
    done = subprocess.run(
        [sys.executable, "-c", KILLED, video, "--json", lines, "--csv", rows],
        env={**os.environ, "PYTHONPATH": paths},
        check=False,
    )
    assert done.returncode < 0
    assert [json.loads(line)["frame"] for line in lines.read_text().splitlines()] == list(range(15))
    assert len(rows.read_text().splitlines()) == 2 * 14
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gt.txt", "seen.jsonl"]
