"""Reading of damaged, mirrored, interlaced, 16-bit and high dynamic range videos, streams and pictures."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av", reason="av is not installed (canton-torch[track])")
cv2 = pytest.importorskip("cv2", reason="opencv is not installed (canton-torch[track])")

from canton.errors import UserError
from canton.track.pipeline import track_video
from canton.track.video.pictures import frame_numbers
from canton.track.video.pixels import CountStretch, Orientation
from canton.track.video.reader import Frame, open_video
from track.pipeline_stub import Bright
from track.videos import HEIGHT, WIDTH, noise, number, plain, resized, write_video


def encode(
    path: Path, images: Iterable[np.ndarray], form: str, pix_fmt: str, codec: str, **frame_fields: int
) -> Path:
    """Write images of any PyAV format, with fields of `av.VideoFrame` such as color_trc."""
    images = list(images)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = pix_fmt
        for field, value in frame_fields.items():
            setattr(stream.codec_context, field, value)
        for image in images:
            frame = av.VideoFrame.from_ndarray(image, format=form)
            if pix_fmt != form:
                frame = frame.reformat(format=pix_fmt)
            for field, value in frame_fields.items():
                setattr(frame, field, value)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def thermal(count: int) -> list[np.ndarray]:
    """Return 14-bit counts of a warm square that moves right over a noisy background, with some drift."""
    rng = np.random.default_rng(3)
    frames = []
    for k in range(count):
        image = 7000 + 100 * np.linspace(0, 1, 96)[None] + rng.normal(0, 4, (64, 96)) + 2 * k
        left = 8 + 2 * k
        image[28:36, left : left + 8] = 7600 + 2 * k
        frames.append(image.astype(np.uint16))
    return frames


def centres(frames: Iterable[Frame]) -> list[tuple[float, float]]:
    results = track_video(Bright(), frames, fps=10, threshold=0.6)
    return [track.box.centre for result in results for track in result.tracks]


@pytest.mark.parametrize("form", ["png", "tiff", "ffv1", "pages"])
def test_16_bit_counts_give_the_tracks_of_the_stretched_video(tmp_path: Path, form: str) -> None:
    counts = thermal(20)
    path: Path = tmp_path
    if form == "ffv1":
        path = encode(tmp_path / "t.mkv", counts, "gray16le", "gray16le", "ffv1")
    elif form == "pages":
        path = tmp_path / "t.tiff"
        assert cv2.imwritemulti(str(path), counts)
    else:
        for k, image in enumerate(counts):
            cv2.imwrite(str(tmp_path / f"{k}.{form}"), image)
    stretched = [((c.astype(float) - 6980) / 700 * 255).clip(0, 255).astype(np.uint8) for c in counts]
    wanted = centres(
        Frame(k, k / 10, image[..., None].repeat(3, -1), k == 0) for k, image in enumerate(stretched)
    )
    with open_video(path, image_fps=10) as video:
        assert not video.has_colour
        found = centres(video)
    assert len(wanted) > 15
    assert found == pytest.approx(np.array(wanted), abs=0.5)


def test_the_stretch_follows_slowly_and_starts_anew_after_a_jump() -> None:
    stretch = CountStretch()
    ramp = np.linspace(7000, 7600, 64 * 64).reshape(64, 64)
    first = stretch.convert(ramp)
    assert first.std() > 40
    flash = stretch.convert(ramp + 300)
    assert flash.mean() > first.mean() + 60, "one frame hardly changes the range"
    assert stretch.convert(ramp + 5000).mean() == pytest.approx(first.mean(), abs=2)
    noisy = np.random.default_rng(0).normal(7000, 2, (64, 64))
    assert CountStretch().convert(noisy).std() < 12, "noise is not enlarged to the whole range"


def packets(path: Path) -> list[tuple[int, int]]:
    with av.open(str(path)) as container:
        return [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]


def damage(path: Path, packet: int, start: int = 8, length: int | None = None) -> None:
    """Overwrite a part of a packet with zeros."""
    position, size = packets(path)[packet]
    content = bytearray(path.read_bytes())
    end = size if length is None else min(size, start + length)
    content[position + start : position + end] = bytes(end - start)
    path.write_bytes(content)


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.avi", "mpeg4"), ("a.mkv", "libx264")])
def test_a_damaged_packet_is_skipped_and_counted(tmp_path: Path, name: str, codec: str) -> None:
    path = write_video(tmp_path / name, noise(40), codec=codec)
    damage(path, 21)
    with open_video(path) as video:
        seconds = [frame.seconds for frame in video]
        assert video.problem is None
        assert 1 <= video.damaged <= 5
    assert len(seconds) >= 34
    assert len(seconds) + video.damaged == 40
    assert seconds[-1] == pytest.approx(3.9)


def test_the_first_good_frame_decides_about_colour(tmp_path: Path) -> None:
    """A frame that the decoder makes up is grey."""
    images = np.random.default_rng(0).integers(0, 255, (12, 240, 320, 3), np.uint8)
    images[..., 2] //= 4
    path = write_video(tmp_path / "a.avi", images, codec="mpeg4")
    damage(path, 0, start=60, length=400)
    with open_video(path) as video:
        assert video.has_colour
        count = len(list(video))
    assert video.damaged >= 1
    assert count + video.damaged == 12


def test_grey_with_chroma_one_step_off_neutral(tmp_path: Path) -> None:
    for blue, red in ((127, 129), (129, 129), (128, 127)):
        picture = np.full((HEIGHT * 3 // 2, WIDTH), 128, np.uint8)
        picture[:HEIGHT] = np.random.default_rng(0).integers(40, 200, (HEIGHT, WIDTH))
        picture[HEIGHT : HEIGHT * 5 // 4], picture[HEIGHT * 5 // 4 :] = blue, red
        path = encode(tmp_path / "a.mkv", [picture], "yuv420p", "yuv420p", "ffv1")
        with open_video(path) as video:
            assert not video.has_colour, (blue, red)


def test_folders_with_other_files_and_gaps(tmp_path: Path) -> None:
    for k in (3, 4, 5, 9, 10, 11):
        cv2.imwrite(str(tmp_path / f"img{k:05d}.png"), plain(k, *((20, 30) if k == 10 else ())))
    (tmp_path / "._img00003.png").write_bytes(b"a resource fork")
    (tmp_path / "Thumbs.db").write_bytes(b"thumbnails")
    (tmp_path / "img00005.png").write_bytes(b"broken")
    (tmp_path / "img00012.png").write_bytes(b"")
    for source in (tmp_path, tmp_path / "img%05d.png", tmp_path / "img%d.png"):
        lines: list[str] = []
        with open_video(source, image_fps=5, report=lines.append) as video:
            frames = list(video)
        assert [frame.index for frame in frames] == [0, 1, 6, 7, 8]
        assert [frame.name for frame in frames] == [f"img{k:05d}.png" for k in (3, 4, 9, 10, 11)]
        assert [frame.seconds for frame in frames] == pytest.approx([0, 0.2, 1.2, 1.4, 1.6])
        assert [number(frame.pixels) for frame in frames] == [3, 4, 9, 10, 11]
        assert [frame.cut for frame in frames] == [True, False, False, True, True], "a new size starts anew"
        assert frames[3].pixels.shape == (30, 20, 3)
        assert (video.damaged, video.problem) == (2, None)
        assert "img00005.png" in lines[0]
    with pytest.raises(UserError, match="frame%05d"):
        open_video(tmp_path / "frame%05d.png")
    for path in tmp_path.glob("img*"):
        path.write_bytes(b"broken")
    with pytest.raises(UserError, match="no frames"):
        open_video(tmp_path)


@pytest.mark.parametrize(
    ("names", "numbers"),
    [
        (["7.png", "8.png", "12.png"], [0, 1, 5]),
        (["a.png", "b.png"], [0, 1]),
        (["20260101.png", "20270101.png"], [0, 1]),
        (["a1.png", "b2.png"], [0, 1]),
        (["v2_1.png", "v2_4.png"], [0, 3]),
    ],
)
def test_frame_numbers_of_names(names: Sequence[str], numbers: list[int]) -> None:
    assert frame_numbers(names) == numbers


def test_every_page_of_a_picture(tmp_path: Path) -> None:
    pages = [plain(k) for k in range(20)]
    assert cv2.imwritemulti(str(tmp_path / "a.tif"), pages)
    with open_video(tmp_path / "a.tif") as video:
        assert video.frames == 20
        assert [number(frame.pixels) for frame in video] == list(range(20))
    animation = cv2.Animation()
    animation.frames, animation.durations = pages[::4], [100, 100, 300, 100, 100]
    assert cv2.imwriteanimation(str(tmp_path / "a.webp"), animation)
    with open_video(tmp_path / "a.webp") as video:
        frames = list(video)
    assert [number(frame.pixels) for frame in frames] == [0, 4, 8, 12, 16]
    assert [frame.seconds for frame in frames] == pytest.approx([0, 0.1, 0.2, 0.5, 0.6])


def test_standard_input(tmp_path: Path, root: Path) -> None:
    path = write_video(tmp_path / "a.mkv", (plain(k) for k in range(8)))
    script = "from canton.track import open_video; print(len(list(open_video('-'))))"
    with path.open("rb") as file:
        done = subprocess.run(
            [sys.executable, "-c", script],
            stdin=file,
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONPATH": str(root / "src")},
        )
    assert done.stdout == "8\n"


def test_a_camera_by_its_device() -> None:
    with pytest.raises(UserError, match="/dev/video87"):
        open_video("/dev/video87")


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_rtp(tmp_path: Path) -> None:
    port, end = free_port(), threading.Event()

    def send() -> None:
        while not end.is_set():
            with av.open(f"rtp://127.0.0.1:{port}?pkt_size=1200", "w", format="rtp_mpegts") as container:
                stream = container.add_stream("mpeg4", rate=10, options={"g": "5"})
                stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
                for k in range(50):
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(plain(k), format="rgb24")))
                    if end.wait(0.01):
                        break

    sender = threading.Thread(target=send)
    sender.start()
    try:
        with open_video(f"rtp://127.0.0.1:{port}", timeout=20) as video:
            assert video.live
            frames = iter(video)
            assert next(frames).pixels.shape == (HEIGHT, WIDTH, 3)
    finally:
        end.set()
        sender.join()


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("mirror", [False, True])
def test_rotation_and_mirror(tmp_path: Path, turns: int, mirror: bool) -> None:
    """The coded frame and its display matrix give the scene back."""
    if not hasattr(av.VideoStream, "set_display_matrix"):
        pytest.skip(f"PyAV {av.__version__} cannot write a display matrix")
    scene = np.full((48, 64, 3), 60, np.uint8)
    scene[:16, :16] = 250
    scene[:16, 48:] = 150
    coded = np.rot90(scene, -turns)
    coded = coded[:, ::-1] if mirror else coded
    # In coordinates of the frame (y down), a turn to the left by 90 degrees maps (x, y) to (y, -x).
    a, b, c, d = {0: (1, 0, 0, 1), 1: (0, -1, 1, 0), 2: (-1, 0, 0, -1), 3: (0, 1, -1, 0)}[turns]
    if mirror:
        a, b = -a, -b
    one = 1 << 16
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width = coded.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.set_display_matrix((a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30))
        for _ in range(2):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(coded), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with open_video(path) as video:
        assert (video.width, video.height) == (64, 48)
        pixels = next(iter(video)).pixels
    assert np.abs(pixels.astype(int) - scene).mean() < 6


def test_orientation_sizes() -> None:
    assert Orientation(1, True).size(4, 3) == (3, 4)
    assert Orientation(2, True).size(4, 3) == (4, 3)


def combed(k: int) -> np.ndarray:
    """Return a frame whose fields show a bar at two moments."""
    image = np.full((HEIGHT, WIDTH, 3), 30, np.uint8)
    image[0::2, 10 + 4 * k : 20 + 4 * k] = 220
    image[1::2, 14 + 4 * k : 24 + 4 * k] = 220
    return image


def combing(pixels: np.ndarray) -> float:
    rows = pixels[..., 1].astype(int)
    return float(np.abs(2 * rows[1:-1] - rows[:-2] - rows[2:]).mean())


@pytest.mark.parametrize(("flagged", "option"), [(True, None), (False, True), (True, False), (False, None)])
def test_interlaced(tmp_path: Path, flagged: bool, option: bool | None) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        flags = {"flags": "+ildct+ilme", "field_order": "tt"} if flagged else {}
        stream = container.add_stream("mpeg2video", rate=10, options={"qmin": "1", "qmax": "2", **flags})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        graph = av.filter.Graph()
        source = graph.add_buffer(width=WIDTH, height=HEIGHT, format="yuv420p", time_base=Fraction(1, 10))
        nodes = [source, graph.add("setfield", "tff" if flagged else "prog"), graph.add("buffersink")]
        graph.link_nodes(*nodes).configure()
        for k in range(8):
            frame = av.VideoFrame.from_ndarray(combed(k), format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = k, Fraction(1, 10)
            graph.push(frame)
            container.mux(stream.encode(graph.pull()))
        container.mux(stream.encode(None))
    with open_video(path, deinterlace=option) as video:
        frames = list(video)
    assert [frame.index for frame in frames] == list(range(8))
    assert [frame.seconds for frame in frames] == pytest.approx([k / 10 for k in range(8)], abs=2e-3)
    removed = option or (flagged and option is None)
    assert (combing(frames[4].pixels) < 0.5 * combing(combed(4))) == removed


@pytest.mark.parametrize(
    ("transfer", "white"), [(16, 0.58), (18, 0.75)]
)  # code of 203 nits: ITU-R BT.2408-7, table 1
def test_high_dynamic_range_is_tone_mapped(tmp_path: Path, transfer: int, white: float) -> None:
    ramp = np.full((HEIGHT, WIDTH, 3), round(white * 65535), np.uint16)
    ramp[:, :16] = 65535
    ramp[:, 48:] = round(0.2 * 65535)
    path = encode(tmp_path / "a.mkv", [ramp], "rgb48le", "yuv444p10le", "ffv1", color_trc=transfer)
    plainly = encode(tmp_path / "b.mkv", [ramp], "rgb48le", "yuv444p10le", "ffv1")
    values = []
    for name in (path, plainly):
        with open_video(name) as video:
            (frame,) = video
        values.append([int(frame.pixels[20, x].mean()) for x in (4, 32, 60)])
    (bright, middle, dark), flat = values
    assert flat[1] == pytest.approx(255 * white, abs=4)
    assert bright >= 250
    assert 180 <= middle <= 205, "graphics white"
    assert dark < flat[2]
    assert (middle - dark) > 1.1 * (flat[1] - flat[2]) or transfer == 18
    with open_video(path, gray=True) as video:
        assert next(iter(video)).pixels[20, 32, 0] == pytest.approx(middle, abs=3)


def test_a_change_of_size_starts_anew(tmp_path: Path) -> None:
    with open_video(resized(tmp_path / "two.h264")) as video:
        frames = list(video)
    assert video.problem is None
    assert [number(frame.pixels) for frame in frames] == list(range(10))
    assert [frame.index for frame in frames if frame.cut] == [0, 5]
    assert {frame.pixels.shape for frame in frames[5:]} == {(HEIGHT, 32, 3)}


class Dropping:
    """A TCP server that sends one part of a video per connection, and then refuses."""

    def __init__(self, parts: Sequence[bytes]) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.parts = parts
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        with self.server:
            for part in self.parts:
                connection, _ = self.server.accept()
                with connection:
                    connection.sendall(part)


def test_a_lost_stream_is_opened_again(tmp_path: Path) -> None:
    def part(start: int) -> bytes:
        frames = (plain(k) for k in range(start, start + 20))
        return write_video(tmp_path / "part.ts", frames).read_bytes()

    server, lines = Dropping([part(0), part(20)]), list[str]()
    with open_video(f"tcp://127.0.0.1:{server.port}", timeout=5, reconnect=1, report=lines.append) as video:
        assert video.live
        frames = list(video)
    server.thread.join()
    assert [number(frame.pixels) for frame in frames] == list(range(40))
    assert [frame.index for frame in frames if frame.cut] == [0, 20]
    seconds = [frame.seconds for frame in frames]
    assert seconds == sorted(seconds)
    assert 1 < seconds[20] - seconds[19] < 4, "the time without a connection counts"
    assert ["lost" in line for line in lines] == [True, False, True]
    assert "1 attempt" in str(video.problem)


def test_a_lost_stream_ends_without_reconnecting(tmp_path: Path) -> None:
    content = write_video(tmp_path / "a.ts", (plain(k) for k in range(20))).read_bytes()
    server = Dropping([content])
    with open_video(f"tcp://127.0.0.1:{server.port}", timeout=5) as video:
        assert len(list(video)) == 20
    server.thread.join()
    assert video.problem is None
