"""Many films on a local Ray of two workers, one of which is killed."""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av", reason="av is not installed (canton-torch[track])")
ray = pytest.importorskip("ray", reason="ray is not installed (canton-torch[ray])")
parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed (canton-torch[ray])")

from canton.errors import UserError
from canton.track.checkpoint import save_model
from canton.track.model import Architecture, TrackModel
from canton.track.on_ray import watch_films
from track.videos import noise, write_video

FILMS, BROKEN = 40, 17


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Start a local Ray; its processes have this word in their environment."""
    word = uuid.uuid4().hex
    monkeypatch.setenv("CANTON_RAY_TEST", word)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(num_cpus=3, include_dashboard=False, object_store_memory=100 * 2**20, log_to_driver=False)
    yield word
    ray.shutdown()


def actors(mark: str) -> list[int]:
    """Return the processes of the actors that watch films."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it may have ended
            if mark.encode() in (folder / "environ").read_bytes():
                name = (folder / "cmdline").read_bytes()
                found += [int(folder.name)] if name.startswith(b"ray::") and b"Worker" in name else []
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="finds the actors in /proc")
def test_every_good_film_has_one_result(mark: str, tmp_path: Path) -> None:
    model, films, out = tmp_path / "m.safetensors", tmp_path / "films", tmp_path / "out"
    save_model(model, TrackModel(Architecture(stem=((4, 3, True), (4, 3, True)), memory=4)), {})
    films.mkdir()
    first = write_video(films / "0.mp4", noise(60))
    for k in range(1, FILMS):
        (films / f"{k}.mp4").write_bytes(first.read_bytes())
    (films / f"{BROKEN}.mp4").write_bytes(b"no film")
    killed: list[int] = []

    def kill() -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not killed:
            if running := actors(mark):
                time.sleep(1.5)
                os.kill(running[0], signal.SIGKILL)
                killed.append(running[0])
            time.sleep(0.1)

    killer = threading.Thread(target=kill)
    killer.start()
    watch_films([films / f"{k}.mp4" for k in range(FILMS)], model, out, workers=2, threshold=0.02)
    killer.join()
    assert killed
    table = parquet.read_table(out).to_pylist()
    errors = {row["film"]: row["error"] for row in table if row["error"]}
    assert list(errors) == [str(films / f"{BROKEN}.mp4")]
    assert "cannot open" in errors[str(films / f"{BROKEN}.mp4")]
    good = [row for row in table if not row["error"]]
    assert {row["film"] for row in good} == {str(films / f"{k}.mp4") for k in range(FILMS) if k != BROKEN}
    assert {row["frames"] for row in good} == {60}
    repeated = Counter((row["film"], row["frame"], row["id"]) for row in table)
    assert set(repeated.values()) == {1}, "no film counts twice"
    per_film = Counter(row["film"] for row in good)
    assert len(set(per_film.values())) == 1, "equal films have equal results"
    assert all(np.isfinite(row["score"]) for row in good if row["id"] >= 0)


def test_invalid_arguments(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="paths"):
        watch_films([], tmp_path / "m", tmp_path / "out")
    with pytest.raises(UserError, match="workers"):
        watch_films(["a.mp4"], tmp_path / "m", tmp_path / "out", workers=0)
    (tmp_path / "full").write_text("not empty")
    with pytest.raises(UserError, match="out"):
        watch_films(["a.mp4"], tmp_path / "m", tmp_path)
