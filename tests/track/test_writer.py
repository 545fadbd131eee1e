"""Writing of videos, also when it is interrupted."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av", reason="av is not installed (canton-torch[track])")

from canton.errors import UserError
from canton.track.video.reader import open_video
from canton.track.video.writer import VideoWriter
from track.videos import HEIGHT, WIDTH, number, plain


def read(path: Path) -> list[np.ndarray]:
    with open_video(path) as video:
        frames = [frame.pixels for frame in video]
    assert video.problem is None
    return frames


@pytest.mark.parametrize("fps", [10, 29.97, 0.5])
def test_written_frames_are_read_back(tmp_path: Path, fps: float) -> None:
    path = tmp_path / "out.mp4"
    with VideoWriter(path, WIDTH, HEIGHT, fps) as writer:
        for k in range(50):
            writer.write(plain(k))
        assert writer.frames == 50
    with open_video(path) as video:
        frames = list(video)
        assert video.fps == pytest.approx(fps, rel=1e-3)
    assert [number(frame.pixels) for frame in frames] == list(range(50))
    assert frames[-1].seconds == pytest.approx(49 / fps, rel=1e-3)


def timed(path: Path, times: Sequence[float | None], fps: float) -> tuple[list[float], float]:
    """Write frames with these times; return their presentation times and the duration in seconds."""
    with VideoWriter(path, WIDTH, HEIGHT, fps) as writer:
        for k, seconds in enumerate(times):
            writer.write(plain(k), seconds)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.pts is not None]
        moments = [float(packet.pts * packet.time_base) for packet in packets]
        assert all(packet.pts == packet.dts for packet in packets)
        lasting = [float(packet.duration * packet.time_base) for packet in packets]
        assert lasting[:-1] == pytest.approx(np.diff(moments), abs=1e-4)
        keys = [moment for moment, packet in zip(moments, packets, strict=True) if packet.is_keyframe]
        for key, following in pairwise(keys):
            between = [moment for moment in moments if key < moment < following]
            assert all(moment - key < 1 for moment in between), "a kill would lose more than a second"
        assert all(moment - keys[-1] < 1 for moment in moments)
        return moments, container.duration / av.time_base


def test_presentation_times(tmp_path: Path) -> None:
    times = [0, 0.04, 0.08, 0.4, 0.44, 1.5, 1.54, 2.9, 2.933, 2.967, 3, 3.4, 3.8, 4.2, 4.6, 9, 9.04]
    moments, duration = timed(tmp_path / "out.mp4", [100 + seconds for seconds in times], 25)
    assert moments == pytest.approx(times, abs=1e-4)
    assert duration == pytest.approx(9.08, abs=1e-3)
    assert [number(frame) for frame in read(tmp_path / "out.mp4")] == list(range(len(times)))


def test_a_constant_rate_is_exact(tmp_path: Path) -> None:
    for fps in (24, 30000 / 1001):
        by_rate, long = timed(tmp_path / "rate.mp4", [None] * 50, fps)
        by_time, as_long = timed(tmp_path / "time.mp4", [k / fps for k in range(50)], fps)
        assert by_rate == by_time
        assert long == as_long == pytest.approx(50 / fps, abs=1e-4)


@pytest.mark.parametrize(
    ("times", "shown"),
    [
        ([None, None, 7.0, 7.1, None, 7.3], [0, 0.1, 0.2, 0.3, 0.4, 0.5]),
        ([0.0, 0.0, 0.0, 0.3], [0, 0.1, 0.2, 0.5]),
        ([0.0, 0.5, 0.2, 0.4], [0, 0.5, 0.6, 0.8]),
        ([0.0, 0.1, 1.7e9, 1.7e9 + 0.2], [0, 0.1, 0.2, 0.4]),
        ([0.0, float("nan"), float("inf"), 0.35], [0, 0.1, 0.2, 0.35]),
        ([5.0, 5.0 + 1e-9, 5.3], [0, 0.1, 0.4]),
    ],
)
def test_an_invalid_time_is_one_period_after_the_last(
    tmp_path: Path, times: list[float | None], shown: list[float]
) -> None:
    moments, _ = timed(tmp_path / "out.mp4", times, 10)
    assert moments == pytest.approx(shown, abs=1e-4)


@pytest.mark.parametrize(("width", "height"), [(63, 48), (64, 47), (33, 17), (1, 1)])
def test_odd_sizes(tmp_path: Path, width: int, height: int) -> None:
    image = np.full((height, width, 3), (200, 60, 30), np.uint8)
    with VideoWriter(tmp_path / "odd.mp4", width, height, 10) as writer:
        writer.write(image)
    (frame,) = read(tmp_path / "odd.mp4")
    assert frame.shape == (height + height % 2, width + width % 2, 3)
    assert np.abs(frame.astype(int) - (200, 60, 30)).max() < 12  # no black edge


def test_a_view_of_an_array_can_be_written(tmp_path: Path) -> None:
    wide = np.concatenate([plain(3), plain(9)], 1)
    with VideoWriter(tmp_path / "half.mp4", WIDTH, HEIGHT, 10) as writer:
        writer.write(wide[:, ::-1][:, :WIDTH])
    assert number(read(tmp_path / "half.mp4")[0]) == 9


def test_wrong_pixels(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", WIDTH, HEIGHT, 10) as writer:
        writer.write(plain(0))
        for wrong in (plain(0, 32), plain(0)[..., :1], plain(0).astype(np.float32)):
            with pytest.raises(ValueError, match="pixels"):
                writer.write(wrong)
    assert len(read(tmp_path / "out.mp4")) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("out.avi", 64, 48, 10), ".mp4"),
        (("missing/out.mp4", 64, 48, 10), "cannot write .*no such file or folder"),
        (("folder.mp4", 64, 48, 10), "it is a directory"),
        (("out.mp4", 0, 48, 10), "width"),
        (("out.mp4", 64, 99999, 10), "height"),
        (("out.mp4", 64, 48, 0), "fps"),
        (("out.mp4", 64, 48, float("nan")), "fps"),
    ],
)
def test_invalid_arguments(tmp_path: Path, arguments: tuple[str, int, int, float], says: str) -> None:
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(UserError, match=says):
        VideoWriter(tmp_path / arguments[0], *arguments[1:])
    assert [path.name for path in tmp_path.iterdir()] == ["folder.mp4"]


def test_an_error_in_the_block_keeps_written_frames(tmp_path: Path) -> None:
    def interrupted() -> None:
        with VideoWriter(tmp_path / "out.mp4", WIDTH, HEIGHT, 10) as writer:
            for k in range(25):
                writer.write(plain(k))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [number(frame) for frame in read(tmp_path / "out.mp4")] == list(range(25))


WRITER = """
import sys, time
from pathlib import Path
import numpy as np
from canton.errors import UserError
from canton.track.video.writer import VideoWriter
rng = np.random.default_rng(0)
try:
    with VideoWriter(Path(sys.argv[1]), 64, 48, 10) as writer:
        for k in range(int(sys.argv[2])):
            writer.write(rng.integers(0, 255, (48, 64, 3), np.uint8))
        print("written", flush=True)
        time.sleep(float(sys.argv[3]))
except UserError as error:
    print(error)
    sys.exit(2)
"""


def test_a_kill_leaves_a_playable_video(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), "100", "60"], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "written\n"
        writer.send_signal(signal.SIGKILL)
    with open_video(path) as video:
        kept = len(list(video))
    assert 90 <= kept <= 100


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit on the size of files here")
def test_a_full_disk_raises_and_leaves_a_playable_video(tmp_path: Path) -> None:
    """A limit on the file size makes write() fail, as a full disk does."""
    path = tmp_path / "out.mp4"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    done = subprocess.run(
        [sys.executable, "-c", WRITER, str(path), "400", "0"],
        capture_output=True,
        text=True,
        preexec_fn=limit,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stdout.startswith(f"cannot write {path}: file too large")
    assert path.stat().st_size <= 200_000
    with open_video(path) as video:
        kept = len(list(video))
    assert kept >= 20
    assert video.problem is None


def test_close_twice(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "out.mp4", WIDTH, HEIGHT, 10)
    writer.write(plain(1))
    writer.close()
    writer.close()
    assert len(read(tmp_path / "out.mp4")) == 1
