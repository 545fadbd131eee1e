"""Detection of truncated files, in several containers."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import pytest

av = pytest.importorskip("av", reason="av is not installed (canton-torch[track])")

from canton.track.video.reader import open_video
from track.videos import HEIGHT, WIDTH, noise, number, plain, write_video

FRONT = {"movflags": "faststart"}


def start_late(source: Path, path: Path, seconds: float) -> Path:
    """Cut as `ffmpeg -ss SECONDS -i SOURCE -c copy PATH` does: an edit list hides the beginning."""
    with av.open(str(source)) as old, av.open(str(path), "w", options=FRONT) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                shift = round(seconds / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
                new.mux(packet)
    return path


def edited(path: Path, start: float, length: float) -> Path:
    """Make the edit list of a faststart file start `start` seconds later and last `length` seconds."""
    with av.open(str(path)) as container:
        later = round(start / container.streams.video[0].time_base)
    content = bytearray(path.read_bytes())
    one = content.index(b"elst") + 8  # a length in ms and a start by the stream's clock
    assert content[one : one + 4] == struct.pack(">I", 1)
    (old,) = struct.unpack(">i", content[one + 8 : one + 12])
    content[one + 4 : one + 12] = struct.pack(">Ii", round(length * 1000), old + later)
    path.write_bytes(content)
    return path


def read_all(path: Path) -> tuple[list[int], str | None]:
    """Return the numbers of the frames, and the reported problem."""
    with open_video(path) as video:
        return [number(frame.pixels) for frame in video], video.problem


def truncate(path: Path, share: float) -> tuple[int, str | None]:
    """Truncate a file to a share; return the number of frames, and the reported problem."""
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    frames, problem = read_all(path)
    return len(frames), problem


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])  # with and without reordered frames
@pytest.mark.parametrize(("start", "first"), [(0.3, 3), (0.35, 4), (0.39, 4), (0.85, 9)])
def test_frames_before_an_edit_list_do_not_count_as_missing(
    tmp_path: Path, codec: str, start: float, first: int
) -> None:
    whole = write_video(tmp_path / "whole.mp4", (plain(k) for k in range(24)), codec=codec)
    frames, problem = read_all(start_late(whole, tmp_path / "cut.mp4", start))
    assert (len(frames), problem) == (24 - first, None)
    assert codec == "mpeg4" or frames == list(range(first, 24)), "mpeg4 frames are too lossy to identify"


def test_frames_after_an_edit_list_do_not_count_as_missing(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", (plain(k) for k in range(24)), options=FRONT)
    assert read_all(edited(path, 0.75, 1.0)) == (list(range(8, 18)), None)


def test_an_edit_list_hides_part_of_a_long_frame(tmp_path: Path) -> None:
    """The demuxer starts with the following frame, 3 s too early."""
    times = [0, 100, 200, 5200, 5300]
    path = write_video(tmp_path / "a.mp4", (plain(k) for k in range(5)), times=times)
    frames, problem = read_all(start_late(path, tmp_path / "b.mp4", 2.2))
    assert (frames[0], problem) == (3, None)


@pytest.mark.parametrize("start", [0.3, 0.35])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_truncated_file_with_an_edit_list(tmp_path: Path, start: float, share: float) -> None:
    path = start_late(write_video(tmp_path / "whole.mp4", noise(40)), tmp_path / "cut.mp4", start)
    frames, problem = truncate(path, share)
    assert 40 * share - 9 < frames < 40 * share
    assert f"cut.mp4 ends early after {frames} frames: " in str(problem)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mkv", "libx264"),
        ("a.webm", "libvpx"),
        ("a.wmv", "wmv2"),
        ("a.nut", "libx264"),
        ("a.mp4", "libx264"),
        ("a.ts", "libx264"),
        ("a.avi", "mpeg4"),
        ("a.flv", "flv"),
    ],
)
def test_a_late_start_time(tmp_path: Path, name: str, codec: str) -> None:
    times = [10_000 + 100 * k for k in range(24)]
    path = write_video(tmp_path / name, (plain(k) for k in range(24)), codec=codec, times=times)
    frames, problem = read_all(path)
    assert (len(frames), problem) == (24, None)


def skipping(path: Path, codec: str, left: tuple[int, ...]) -> Path:
    """Write an AVI in which these frames are empty."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 10)
        for k, image in enumerate(noise(50)):
            if k not in left:
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = k, Fraction(1, 10)
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("codec", ["mpeg4", "libx264"])
def test_an_avi_that_dropped_frames(tmp_path: Path, codec: str) -> None:
    path = skipping(tmp_path / "gap.avi", codec, tuple(range(11, 21)))
    with open_video(path) as video:
        assert video.frames == 50, "empty frames count"
        assert len(list(video)) == 40
    assert video.problem is None
    frames, problem = truncate(path, 0.5)
    assert 5 < frames < 25
    assert f"gap.avi ends early after {frames} frames: the last " in str(problem)


@pytest.mark.parametrize("codec", ["mpeg4", "libx264"])
@pytest.mark.parametrize("share", [0.25, 0.5, 0.97])
def test_a_truncated_avi(tmp_path: Path, codec: str, share: float) -> None:
    frames, problem = truncate(write_video(tmp_path / "a.avi", noise(60), codec=codec), share)
    assert 0 < frames < 60
    assert f"a.avi ends early after {frames} frame" in str(problem)
    assert f"the last {6 - frames / 10:g} s are missing" in str(problem)


@pytest.mark.parametrize("times", [None, [10_000 + 100 * k for k in range(50)]])
def test_a_truncated_matroska(tmp_path: Path, times: list[int] | None) -> None:
    frames, problem = truncate(write_video(tmp_path / "a.mkv", noise(50), times=times), 0.5)
    assert 10 < frames < 40
    assert f"a.mkv ends early after {frames} frames: the last {5 - frames / 10:g} s are missing" in str(
        problem
    )


def test_a_truncated_fragmented_mp4(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", noise(60), options={"movflags": "frag_keyframe+empty_moov"})
    frames, problem = truncate(path, 0.7)
    assert 30 < frames < 45
    assert f"a.mp4 ends early after {frames} frames: " in str(problem)


@pytest.mark.parametrize("form", ["mkv", "fragments"])
def test_a_truncated_file_without_a_duration(tmp_path: Path, form: str) -> None:
    options = {"live": "1"} if form == "mkv" else {"movflags": "frag_keyframe+empty_moov"}
    path = write_video(
        tmp_path / f"a.{form[:3].replace('fra', 'mp4')}", (plain(k) for k in range(24)), options=options
    )
    assert read_all(path) == (list(range(24)), None)
