"""Reading of videos, and errors of one line."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av", reason="av is not installed (canton-torch[track])")
cv2 = pytest.importorskip("cv2", reason="opencv is not installed (canton-torch[track])")

from canton.errors import UserError
from canton.track.video.reader import Video, open_video
from canton.track.video.source import DecodedFrame, Source
from track.videos import HEIGHT, WIDTH, noise, number, plain, sound, write_video


@pytest.fixture(scope="module")
def thirty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds at ten frames per second."""
    return write_video(tmp_path_factory.mktemp("films") / "thirty.mp4", (plain(k) for k in range(30)))


def numbers(video: Video) -> list[int]:
    return [number(frame.pixels) for frame in video]


def test_frames_have_index_and_time(thirty: Path) -> None:
    with open_video(thirty) as video:
        assert (video.width, video.height, video.fps, video.frames) == (WIDTH, HEIGHT, 10, 30)
        frames = list(video)
    assert [frame.index for frame in frames] == list(range(30))
    assert [number(frame.pixels) for frame in frames] == list(range(30))
    assert [frame.seconds for frame in frames] == pytest.approx([k / 10 for k in range(30)])
    assert frames[3].pixels.shape == (HEIGHT, WIDTH, 3)
    assert frames[3].pixels.dtype == np.uint8
    assert [frame.cut for frame in frames] == [True] + 29 * [False]
    assert video.problem is None


def test_channels_are_rgb(tmp_path: Path) -> None:
    image = plain(0)
    image[:] = (200, 100, 30)
    with open_video(write_video(tmp_path / "c.mp4", [image])) as video:
        (frame,) = video
    assert frame.pixels.reshape(-1, 3).mean(0) == pytest.approx([200, 100, 30], abs=4)


def test_fps_selects_frames_by_time(thirty: Path) -> None:
    with open_video(thirty, fps=5) as video:
        frames = list(video)
    assert [frame.index for frame in frames] == list(range(0, 30, 2))
    assert [number(frame.pixels) for frame in frames] == list(range(0, 30, 2))
    with open_video(thirty, fps=4) as video:
        assert [frame.index for frame in video][:5] == [0, 3, 5, 8, 10]  # at 0, 0.25, 0.5, 0.75 and 1 s
    with open_video(thirty, fps=1000) as video:
        assert len(list(video)) == 30


def test_variable_frame_rate(tmp_path: Path) -> None:
    times = [0, 100, 130, 160, 500, 900, 910, 920]
    path = write_video(tmp_path / "v.mp4", (plain(k) for k in range(8)), times=times)
    with open_video(path) as video:
        assert [frame.seconds for frame in video] == pytest.approx([t / 1000 for t in times], abs=2e-3)
    with open_video(path, fps=10) as video:
        assert numbers(video) == [0, 1, 4, 5]


@pytest.mark.parametrize(
    ("rotation", "corner"), [(90, "lower left"), (180, "lower right"), (270, "upper right")]
)
def test_rotation(tmp_path: Path, rotation: int, corner: str) -> None:
    """The upper left corner is bright; a counterclockwise turn moves it to the lower left."""
    if not hasattr(av.VideoStream, "set_display_rotation"):
        pytest.skip(f"PyAV {av.__version__} cannot write a rotated video")
    image = plain(0)
    image[:16, :16] = 250
    path = write_video(tmp_path / "turned.mp4", [image, image], rotation=rotation)
    with open_video(path) as video:
        size = (HEIGHT, WIDTH) if rotation != 180 else (WIDTH, HEIGHT)
        assert (video.width, video.height) == size
        frame = next(iter(video))
    assert frame.pixels.shape == (*size[::-1], 3)
    top, left = np.unravel_index(np.argmax(cv2.blur(frame.pixels[..., 1], (9, 9))), size[::-1])
    found = f"{'upper' if top < size[1] / 2 else 'lower'} {'left' if left < size[0] / 2 else 'right'}"
    assert found == corner


@pytest.mark.parametrize("codec", ["libx264", "mjpeg", "ffv1"])
def test_gray_equals_the_luma_of_the_colours(tmp_path: Path, codec: str) -> None:
    ramp = np.repeat(np.arange(20, 20 + 2 * WIDTH, 2, dtype=np.uint8)[None, :, None], HEIGHT, 0).repeat(3, 2)
    path = (
        write_video(tmp_path / "ramp.mkv", [ramp], codec=codec) if codec != "mjpeg" else tmp_path / "ramp.avi"
    )
    if codec == "mjpeg":
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (WIDTH, HEIGHT))
        writer.write(ramp)
        writer.release()
    with open_video(path) as video:
        (colour,) = video
    with open_video(path, gray=True) as video:
        (gray,) = video
    assert gray.pixels.shape == (HEIGHT, WIDTH, 1)
    assert np.abs(gray.pixels[..., 0].astype(int) - ramp[..., 0]).mean() < 4
    assert np.abs(gray.pixels[..., 0].astype(int) - colour.pixels.mean(-1)).max() < 4
    assert gray.cut


@pytest.mark.parametrize("share", [0.15, 0.5, 0.93])
def test_a_truncated_file_keeps_earlier_frames(tmp_path: Path, share: float) -> None:
    """The index is at the front, so that the file opens."""
    path = write_video(tmp_path / "cut.mp4", noise(60), options={"movflags": "faststart"})
    with open_video(path) as video:
        whole = list(video)
    content = path.read_bytes()
    start = content.index(b"mdat")
    path.write_bytes(content[: start + int(share * (len(content) - start))])
    with open_video(path) as video:
        kept = list(video)
    assert share * 60 - 9 < len(kept) < share * 60 + 3
    for one, other in zip(kept, whole, strict=False):
        assert one.index == other.index
        assert np.array_equal(one.pixels, other.pixels)
    assert video.problem is not None
    assert f"ends early after {len(kept)} " in video.problem
    assert "\n" not in video.problem


def test_a_clock_that_is_set_back() -> None:
    def decoded() -> Iterator[DecodedFrame]:
        for seconds in (100.0, 100.5, 50.0, 50.5, math.nan, None):
            yield DecodedFrame(seconds, (WIDTH, HEIGHT), lambda gray: plain(0))

    def given(fps: float | None) -> list[float]:
        source = Source(decoded(), 10.0, None, lambda: None)
        return [frame.seconds for frame in Video("camera", source, fps=fps, gray=False)]

    assert given(None)[:4] == [0, 0.5, 0.5, 1.0]
    assert all(math.isfinite(seconds) for seconds in given(None))
    assert given(2.0)[:3] == [0, 0.5, 1.0]


def test_a_truncated_file_without_a_frame_count(tmp_path: Path) -> None:
    path = write_video(tmp_path / "whole.mkv", noise(50))
    with open_video(path) as video:
        assert len(list(video)) == 50
        assert video.problem is None
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with open_video(path) as video:
        kept = len(list(video))
    assert 10 < kept < 40
    assert video.problem is not None
    assert "ends early" in video.problem


def test_a_folder_of_images(tmp_path: Path) -> None:
    for k in range(12):
        cv2.imwrite(str(tmp_path / f"f{k}.png"), plain(k))
    (tmp_path / "notes.txt").write_text("no image")
    with open_video(tmp_path) as video:
        assert (video.width, video.height, video.frames) == (WIDTH, HEIGHT, 12)
        assert numbers(video) == list(range(12))  # natural order
    with open_video(tmp_path, gray=True, fps=10) as video:
        frames = list(video)
    assert [number(frame.pixels) for frame in frames] == [0, 3, 6, 9]
    assert frames[0].pixels.shape == (HEIGHT, WIDTH, 1)
    cv2.imwrite(str(tmp_path / "f5.png"), plain(0) * 0 + np.array([40, 56, 0], np.uint8))
    with open_video(tmp_path) as video:
        assert list(video)[5].pixels[0, 0].tolist() == [0, 56, 40]


def test_frames_report_cuts(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    shots = [cv2.resize(rng.integers(0, 255, (4, 4, 3), np.uint8), (WIDTH, HEIGHT)) for _ in range(3)]
    path = write_video(tmp_path / "shots.mp4", [shots[k // 10] for k in range(30)])
    with open_video(path) as video:
        assert [frame.index for frame in video if frame.cut] == [0, 10, 20]


def bad(folder: Path, name: str) -> Path:
    """Write a source that is no video."""
    path = folder / name
    match name:
        case "text.mp4":
            path.write_text("this is no video\n" * 100)
        case "text.txt":
            path.write_text("FFmpeg would draw this on a terminal\n" * 100)
        case "nothing.mp4":
            path.write_bytes(b"")
        case "sound.mp4":
            sound(path)
        case "frameless.mp4":
            content = write_video(
                path, [plain(k) for k in range(3)], options={"movflags": "frag_keyframe+empty_moov"}
            )
            path.write_bytes(content.read_bytes()[: content.read_bytes().index(b"moof") - 4])
        case "headless.mp4":
            content = write_video(path, [plain(k) for k in range(30)]).read_bytes()
            path.write_bytes(content[: content.index(b"moov") - 4])
        case "empty":
            path.mkdir()
    return path


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("text.mp4", "cannot open"),
        ("text.txt", "video stream"),
        ("nothing.mp4", "empty"),
        ("sound.mp4", "audio"),
        ("frameless.mp4", "frames|cannot open"),
        ("headless.mp4", "cannot open"),
        ("empty", "images"),
        ("missing.mp4", "no such file"),
    ],
)
def test_sources_that_are_no_video(tmp_path: Path, name: str, says: str) -> None:
    path = bad(tmp_path, name)
    with pytest.raises(UserError, match=says) as caught:
        open_video(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_name() -> None:
    with pytest.raises(UserError, match="video"):
        open_video("")


def test_a_missing_camera() -> None:
    with pytest.raises(UserError, match="camera 87"):
        open_video("87")


@pytest.mark.parametrize(("name", "value"), [("fps", 0), ("fps", float("nan")), ("timeout", -1)])
def test_arguments_out_of_range_are_named(thirty: Path, name: str, value: float) -> None:
    with pytest.raises(UserError, match=name):
        open_video(thirty, **{name: value})  # type: ignore[arg-type]
