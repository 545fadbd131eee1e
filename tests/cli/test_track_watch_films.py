"""`canton track watch --out-dir`: many films, several processes, several machines."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("av", reason="av is not installed (canton-torch[track])")
pytest.importorskip("cv2", reason="opencv is not installed (canton-torch[track])")
pytest.importorskip("trackers", reason="trackers is not installed (canton-torch[track])")

from canton.cli.track.watch_films import expand_films, film_names
from canton.errors import UserError
from cli.conftest import Canton
from track.pipeline_stub import flight
from track.videos import write_video

COUNT = 6


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of six films of 20 frames, one of them broken."""
    folder = tmp_path_factory.mktemp("films")
    first = write_video(folder / "f0.mp4", [frame.pixels for frame in flight(20)])
    for k in range(1, COUNT):
        (folder / f"f{k}.mp4").write_bytes(first.read_bytes())
    (folder / "f3.mp4").write_bytes(b"This is no video. " * 100)
    (folder / "notes.txt").write_text("no film")
    return folder


@pytest.fixture(scope="module")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file that worker processes can load."""
    from canton.track.checkpoint import save_model
    from canton.track.model import Architecture, TrackModel

    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    save_model(path, TrackModel(Architecture(stem=((4, 3, True), (4, 3, True)), memory=4)), {})
    return path


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_every_film_has_its_results(canton: Canton, bright: Path, films: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    watch = ("track", "watch", bright, films, "--out-dir", out)
    done = canton(*watch, "--json", "--csv", "--video")
    assert done.status == 1
    assert "5 films done, 1 failed, 0 skipped" in done.out
    assert listing(out) == sorted(
        ["f3.error", *(f"f{k}{end}" for k in (0, 1, 2, 4, 5) for end in (".csv", ".jsonl", ".mp4"))]
    )
    assert "f3.mp4" in (out / "f3.error").read_text()
    single = tmp_path / "single.jsonl"
    assert canton("track", "watch", bright, films / "f4.mp4", "--json", single).status == 0

    def without_times(path: Path) -> list[dict[str, object]]:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return [{key: value for key, value in line.items() if key != "latency_ms"} for line in lines]

    assert without_times(out / "f4.jsonl") == without_times(single)


def test_skip_done(canton: Canton, bright: Path, films: Path, tmp_path: Path) -> None:
    watch = ("track", "watch", bright, films / "f0.mp4", films / "f1.mp4", "--out-dir", tmp_path, "-q")
    assert canton(*watch).status == 0
    assert listing(tmp_path) == ["f0.csv", "f1.csv"], "csv is the default"
    (tmp_path / "f0.csv").write_text("earlier")
    (tmp_path / "f1.csv").unlink()
    (tmp_path / "f1.error").write_text("an earlier failure")
    (tmp_path / ".f1.unfinished.csv").write_text("half a result")
    done = canton(*watch, "--skip-done")
    assert "1 films done, 0 failed, 1 skipped" in done.out
    assert (tmp_path / "f0.csv").read_text() == "earlier"
    assert listing(tmp_path) == ["f0.csv", "f1.csv"]
    assert canton(*watch).status == 0
    assert (tmp_path / "f0.csv").read_text() != "earlier"


def test_shards_divide_the_films(
    canton: Canton, bright: Path, films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = ("track", "watch", bright, films, "--out-dir", tmp_path)
    canton(*watch, "--shard", "2/3")
    assert listing(tmp_path) == ["f1.csv", "f4.csv"]
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "3")
    canton(*watch)
    assert listing(tmp_path) == ["f1.csv", "f2.csv", "f4.csv", "f5.csv"]
    assert "--shard" in canton.complains(*watch, "--shard", "0/3")


def test_a_list_of_films(
    canton: Canton, bright: Path, films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"{films / 'f0.mp4'}\n\n{films / 'f2.mp4'}\n"
    listed = tmp_path / "list.txt"
    listed.write_text(text)
    watch = ("track", "watch", bright, "--out-dir", tmp_path / "out", "--list")
    assert canton(*watch, listed).status == 0
    assert listing(tmp_path / "out") == ["f0.csv", "f2.csv"]
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    assert "2 skipped" in canton(*watch, "-", "--skip-done").out
    assert "--list" in canton.complains(*watch, tmp_path / "none.txt")


def test_names_of_results() -> None:
    assert film_names(["a/x.mp4", "b/y.mp4"]) == ["x", "y"]
    assert film_names(["a/x.mp4", "a/x.avi", "y.mp4"]) == ["x.mp4", "x.avi", "y"]
    assert film_names(["a/x.mp4", "b/x.mp4"]) == ["a_x.mp4", "b_x.mp4"]
    assert len(set(film_names(["x.mp4", "x.mp4", "rtsp://cam/1", "../x.mp4", "-", "/"]))) == 6


def test_films_of_folders(films: Path, tmp_path: Path) -> None:
    assert [Path(name).name for name in expand_films([str(films)])] == [f"f{k}.mp4" for k in range(COUNT)]
    (tmp_path / "0.png").write_bytes(b"")
    assert expand_films([str(tmp_path)]) == [str(tmp_path)], "a folder of pictures is one film"
    with pytest.raises(UserError, match="--list"):
        expand_films([])


def test_invalid_arguments(canton: Canton, bright: Path, films: Path, tmp_path: Path) -> None:
    watch = ("track", "watch", bright, films / "f0.mp4", "--out-dir")
    assert "--out-dir" in canton.complains(*watch, tmp_path, "--json=seen.jsonl")
    assert "--workers" in canton.complains(*watch, tmp_path, "--workers", "0")
    assert "--out-dir" in canton.complains(*watch, films / "f0.mp4")
    assert "must not hold the films" in canton.complains(*watch, films, "--video")
    assert listing(films) == [*(f"f{k}.mp4" for k in range(COUNT)), "notes.txt"]


RUN = [sys.executable, "-m", "canton", "track", "watch"]


def environment(root: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(root / "src"), "OMP_NUM_THREADS": "1"}


def children(process: int) -> list[int]:
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    pids = [int(pid) for task in tasks for pid in task.read_text().split()]
    return [pid for pid in pids if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the workers in /proc")
@pytest.mark.parametrize("victim", ["worker", "run"])
def test_a_kill_loses_the_films_under_way_at_most(
    root: Path, films: Path, small_model: Path, tmp_path: Path, victim: str
) -> None:
    """A film that ends with a named pipe keeps a worker busy until it is killed."""
    out, waits = tmp_path / "out", tmp_path / "waits.mp4"
    os.mkfifo(waits)
    words = [*RUN, small_model, waits, *(films / f"f{k}.mp4" for k in (0, 1, 2, 4)), "--out-dir", out]
    process = subprocess.Popen(
        [*words, "--workers", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(root),
    )
    done = ["f0.csv", "f1.csv", "f2.csv", "f4.csv"]
    deadline = time.monotonic() + 120
    while not out.exists() or not set(done) <= set(listing(out)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    workers = children(process.pid)
    assert len(workers) == 2
    for pid in workers if victim == "worker" else [process.pid]:
        os.kill(pid, signal.SIGKILL)
    said, complaint = process.communicate(timeout=60)
    if victim == "worker":
        assert process.returncode == 1, complaint
        assert "4 films done, 1 failed" in said
        assert "SIGKILL" in (out / "waits.error").read_text()
    results = {name: (out / name).read_bytes() for name in done}
    waits.unlink()
    waits.write_bytes((films / "f0.mp4").read_bytes())
    again = subprocess.run(
        [*words, "--skip-done"], capture_output=True, text=True, check=True, env=environment(root)
    )
    assert "1 films done, 0 failed, 4 skipped" in again.stdout
    assert listing(out) == [*done, "waits.csv"]
    assert {name: (out / name).read_bytes() for name in done} == results
