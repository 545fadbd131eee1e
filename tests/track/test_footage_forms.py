"""Which file is a clip's video, and when it is decoded again."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import pytest

av = pytest.importorskip("av", reason="av is not installed (canton-torch[track])")
cv2 = pytest.importorskip("cv2", reason="opencv is not installed (canton-torch[track])")

from canton.errors import UserError
from canton.track.data.dataset import Clip, Footage
from canton.track.data.frame_cache import cache_frames
from canton.track.video.ffmpeg import VIDEO_SUFFIXES
from track.videos import HEIGHT, WIDTH, number, plain, write_video

BOX = "1,1,10,20,6,4,1,-1,-1,-1\n"
DOCS = Path(__file__).parents[2] / "docs" / "footage.md"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "canton" / "frames"


def labelled(folder: Path, name: str = "sky") -> Path:
    """Write a clip's labels in MOT format; return its folder."""
    (folder / name / "gt").mkdir(parents=True)
    (folder / name / "gt" / "gt.txt").write_text(BOX)
    return folder / name


def image(path: Path, k: int) -> None:
    path.parent.mkdir(exist_ok=True)
    assert cv2.imwrite(str(path), plain(k))


def gif(path: Path, count: int) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("gif", rate=10)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "gray"
        for k in range(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(plain(k), format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("name", ["sky.mp4", "sky.avi", "clips/sky.mkv"])
def test_video_beside_the_folder_of_its_labels(tmp_path: Path, name: str) -> None:
    labelled(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    write_video(tmp_path / name, [plain(k) for k in range(5)])
    (clip,) = Footage(tmp_path)
    assert clip.path == tmp_path / name
    assert [number(frame.pixels) for frame in clip.frames(None)] == list(range(5))


@pytest.mark.parametrize("name", ["clips/sky", "sky"])
def test_folder_without_images_is_not_a_video(tmp_path: Path, name: str) -> None:
    labelled(tmp_path)
    (tmp_path / name).mkdir(parents=True, exist_ok=True)
    (tmp_path / name / "notes.txt").write_text("no image")
    with pytest.raises(UserError, match="sky"):
        Footage(tmp_path)
    write_video(tmp_path / "sky.mp4", [plain(0)])
    assert Footage(tmp_path)[0].path == tmp_path / "sky.mp4"


@pytest.mark.parametrize("place", ["", "img1"])
def test_images_in_the_folder_of_the_labels(tmp_path: Path, place: str) -> None:
    image(labelled(tmp_path) / place / "000001.PNG", 3)
    write_video(tmp_path / "sky.mp4", [plain(0)])
    (clip,) = Footage(tmp_path)
    assert clip.path == tmp_path / "sky" / place
    assert [number(frame.pixels) for frame in clip.frames(None)] == [3]


@pytest.mark.parametrize(
    ("ending", "codec"),
    [
        (".3gp", "mpeg4"),
        (".f4v", "libx264"),
        (".flv", "flv"),
        (".gif", "gif"),
        (".h264", "libx264"),
        (".m2ts", "libx264"),
        (".m2v", "mpeg2video"),
        (".MTS", "libx264"),
        (".mxf", "mpeg2video"),
        (".vob", "mpeg2video"),
    ],
)
def test_every_video_suffix_is_found(tmp_path: Path, ending: str, codec: str) -> None:
    (tmp_path / "labels.csv").write_text("clip,frame,x,y,w,h\nsky,0,1,2,3,4\n")
    path = tmp_path / f"sky{ending}"
    if codec == "gif":
        gif(path, 5)
    else:
        write_video(path, [plain(k) for k in range(5)], codec=codec, fps=25)
    (clip,) = Footage(tmp_path)
    assert clip.path == path
    assert len(list(clip.frames(None))) == 5


def test_gif_preview_does_not_replace_the_video(tmp_path: Path) -> None:
    labelled(tmp_path)
    gif(tmp_path / "sky.gif", 2)
    write_video(tmp_path / "sky.mp4", [plain(0)])
    assert Footage(tmp_path)[0].path == tmp_path / "sky.mp4"


def test_the_page_names_every_extension() -> None:
    (listed,) = re.findall(r"these extensions(.*?)\n\n", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert sorted(re.findall(r"\.\w+", listed)) == sorted(VIDEO_SUFFIXES)


def cached_numbers(folder: Path) -> list[int]:
    """Return the numbers of a video's cached frames."""
    (one,) = cache_frames([Clip("sky", folder, "", "", "", {})], fps=30.0, width=WIDTH)
    return [number(frame) for frame in one.frames]


def test_overwritten_image_is_decoded_again(tmp_path: Path, cache: Path) -> None:
    folder = tmp_path / "sky"
    for k in range(4):
        image(folder / f"{k}.bmp", k)
    assert cached_numbers(folder) == [0, 1, 2, 3]
    assert cached_numbers(folder) == [0, 1, 2, 3]
    assert len(list(cache.glob("*.problem.txt"))) == 1, "decoded once"
    was = folder.stat()
    size = (folder / "2.bmp").stat().st_size
    image(folder / "2.bmp", 9)  # as large
    os.utime(folder, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert (folder / "2.bmp").stat().st_size == size
    assert cached_numbers(folder) == [0, 1, 9, 3]
    other = (folder / "2.bmp").stat().st_mtime_ns
    image(folder / "2.bmp", 5)
    os.utime(folder / "2.bmp", ns=(other, other + 1))
    assert cached_numbers(folder) == [0, 1, 5, 3]
    (folder / "3.bmp").rename(folder / "1a.bmp")
    os.utime(folder, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert cached_numbers(folder) == [0, 1, 3, 5]
    (folder / "notes.txt").write_text("no image")
    files = len(list(cache.iterdir()))
    assert cached_numbers(folder) == [0, 1, 3, 5]
    assert len(list(cache.iterdir())) == files, "only images count"


def test_cache_file_name_is_stable(tmp_path: Path, cache: Path) -> None:
    """A changed name would make every user decode all clips again."""
    path = write_video(tmp_path / "sky.mp4", [plain(k) for k in range(3)])
    assert cached_numbers(path) == [0, 1, 2]
    status = path.stat()
    what = f"{path.resolve()} {status.st_size} {status.st_mtime_ns} 30.0 {WIDTH}"
    assert (cache / f"{hashlib.sha256(what.encode()).hexdigest()[:24]}.npy").exists()
