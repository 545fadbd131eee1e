"""`canton track watch` with files and live streams from a web server."""

from __future__ import annotations

import http.server
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("av", reason="av is not installed (canton-torch[track])")
pytest.importorskip("cv2", reason="opencv is not installed (canton-torch[track])")
pytest.importorskip("trackers", reason="trackers is not installed (canton-torch[track])")

from canton.track.video.reader import open_video
from cli.conftest import Canton
from track.pipeline_stub import Bright
from track.videos import HEIGHT, WIDTH, noise, write_video

FRAMES = 60


class Server(http.server.ThreadingHTTPServer):
    """Sends `content` for whatever is asked. length: whether it says how long that is. ends: after which part
    of it nothing comes any more.
    """

    content = b""
    length = True
    ends = 1.0


class Sends(http.server.BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        content = self.server.content
        asked = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked and self.server.length else 0
        self.send_response(206 if start else 200)
        if self.server.length:
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(content) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Connection", "close")
        self.end_headers()
        part = content[start : round(len(content) * self.server.ends)]
        with suppress(OSError):  # the client may have closed the connection
            self.wfile.write(part if self.server.length else b"%x\r\n%b\r\n0\r\n\r\n" % (len(part), part))
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Sends) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model that is slower than reading."""

    class Slow(Bright):
        def step(self, frame: object, state: object) -> object:
            time.sleep(0.01)
            return super().step(frame, state)  # type: ignore[arg-type]

    stub = SimpleNamespace(model=Slow(), header={}, checkpoint=None)
    monkeypatch.setattr("canton.track.checkpoint.load_model", lambda path: stub)
    return Path("slow.safetensors")


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
def test_a_file_from_a_web_server_is_read_completely(
    canton: Canton, slow: Path, server: Server, tmp_path: Path, ending: str
) -> None:
    server.content = write_video(tmp_path / f"video.{ending}", noise(FRAMES)).read_bytes()
    address = f"http://127.0.0.1:{server.server_port}/video.{ending}"
    done = canton("track", "watch", slow, address, "--json", "-")
    assert done.status == 0, done.err
    assert [json.loads(line)["frame"] for line in done.out.splitlines()] == list(range(FRAMES))
    assert "dropped" not in done.err


@pytest.mark.parametrize("form", ["ts", "fragments"])
def test_a_live_stream_reports_dropped_frames(
    canton: Canton, slow: Path, server: Server, tmp_path: Path, form: str
) -> None:
    """The stream states no length, in several containers."""
    ending = "ts" if form == "ts" else "mp4"
    cut = {"movflags": "frag_keyframe+empty_moov+default_base_moof"} if form == "fragments" else {}
    server.content = write_video(tmp_path / f"live.{ending}", noise(FRAMES), options=cut).read_bytes()
    server.length = False
    done = canton("track", "watch", slow, f"http://127.0.0.1:{server.server_port}/live", "--json", "-")
    seen = [json.loads(line)["frame"] for line in done.out.splitlines()]
    assert 1 < len(seen) < FRAMES - 5
    assert seen[-1] == FRAMES - 1, "the last frame is not dropped"
    assert done.status == 0, done.err
    assert f"; {FRAMES - len(seen)} dropped frames" in done.err


def test_a_file_of_unknown_length_is_read_completely(
    canton: Canton, slow: Path, server: Server, tmp_path: Path
) -> None:
    server.content = write_video(tmp_path / "video.ts", noise(FRAMES)).read_bytes()
    server.length = False
    done = canton("track", "watch", slow, f"http://127.0.0.1:{server.server_port}/video.ts", "--json", "-")
    assert done.status == 0, done.err
    assert len(done.out.splitlines()) == FRAMES


def test_a_truncated_file_from_a_web_server_keeps_earlier_frames(
    canton: Canton, slow: Path, server: Server, tmp_path: Path
) -> None:
    faststart = {"movflags": "faststart"}
    server.content = write_video(tmp_path / "video.mp4", noise(FRAMES), options=faststart).read_bytes()
    server.ends = 0.5
    done = canton(
        "track", "watch", slow, f"http://127.0.0.1:{server.server_port}/video.mp4", "--json", "-", "--quiet"
    )
    assert done.status == 2
    seen = [json.loads(line)["frame"] for line in done.out.splitlines()]
    assert len(seen) > FRAMES // 4
    assert seen == list(range(len(seen)))
    complaint = done.err.splitlines()[-1]
    assert f"ends early after {len(seen)} " in complaint


def test_a_file_named_like_a_camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "0.mp4", noise(3)).rename(tmp_path / "0")
    monkeypatch.chdir(tmp_path)
    with open_video("0") as video:
        assert not video.live
        assert (video.width, video.height) == (WIDTH, HEIGHT)
