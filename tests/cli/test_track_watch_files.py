"""`canton track watch`: the files it writes, whatever the film is like and however the watching ends."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

av = pytest.importorskip("av", reason="av is not here (canton-torch[track])")
pytest.importorskip("cv2", reason="opencv is not here (canton-torch[track])")
pytest.importorskip("trackers", reason="trackers is not here (canton-torch[track])")

from cli.conftest import Canton
from motion.films import film
from motion.watching_stub import Bright, flight


@pytest.fixture
def bright(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Whatever file is named holds a network that sees what is bright."""
    stub = SimpleNamespace(model=Bright(), header={"threshold": 0.4}, checkpoint=None)
    monkeypatch.setattr("canton.motion.modelfile.load_model", lambda path: stub)
    return Path("bright.safetensors")


def moments(path: Path) -> list[float]:
    """When each frame of a film is shown, in seconds."""
    with av.open(str(path)) as container:
        return [frame.time for frame in container.decode(video=0)]


def test_the_annotated_film_of_uneven_frames_keeps_their_times(
    canton: Canton, bright: Path, tmp_path: Path
) -> None:
    times = [0, 40, 80, 120, 400, 440, 1500, 1540, 2900, 2940, 3333, 6000, 6040]
    film(tmp_path / "uneven.mkv", [frame.pixels for frame in flight(len(times))], times=times)
    done = canton("track", "watch", bright, tmp_path / "uneven.mkv", "--out", tmp_path / "out.mp4")
    assert done.status == 0, done.err
    assert moments(tmp_path / "out.mp4") == pytest.approx([time / 1000 for time in times], abs=1e-3)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.duration / av.time_base == pytest.approx(6.08, abs=0.01)


def test_the_annotated_film_of_even_frames_is_even(canton: Canton, bright: Path, tmp_path: Path) -> None:
    source, out = film(tmp_path / "even.mp4", [frame.pixels for frame in flight(30)]), tmp_path / "out.mp4"
    for words, fps in ((), 10), (("--fps", "5"), 5):
        done = canton("track", "watch", bright, source, "--out", out, *words)
        assert done.status == 0, done.err
        assert moments(out) == pytest.approx([k / fps for k in range(3 * fps)], abs=1e-4)
        with av.open(str(out)) as container:
            assert container.streams.video[0].average_rate == fps
            assert container.duration / av.time_base == pytest.approx(3, abs=1e-3)
