"""Reading from a URL."""

from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("av", reason="av is not installed (canton-torch[track])")

from canton.errors import UserError
from canton.track.video.reader import open_video
from track.videos import noise, write_video


@pytest.fixture
def silent() -> Iterator[int]:
    """Yield the port of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken: list[socket.socket] = []

        def accept() -> None:
            try:
                while True:
                    taken.append(server.accept()[0])
            except OSError:
                pass

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        for connection in taken:
            connection.close()


@pytest.mark.parametrize("protocol", ["http", "rtsp", "tcp"])
def test_a_url_that_does_not_answer(silent: int, protocol: str) -> None:
    begun = time.monotonic()
    with pytest.raises(UserError, match=r"0\.5 s") as caught:
        open_video(f"{protocol}://127.0.0.1:{silent}/sky.mp4", timeout=0.5)
    assert time.monotonic() - begun < 5
    assert "\n" not in str(caught.value)


def test_a_url_without_a_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(UserError, match="cannot open"):
        open_video(f"http://127.0.0.1:{port}/sky.mp4", timeout=2)


def test_a_url_that_stops_answering_keeps_earlier_frames(tmp_path: Path) -> None:
    content = write_video(tmp_path / "live.ts", noise(100)).read_bytes()
    quiet = threading.Event()

    class Stalls(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            quiet.wait(20)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stalls) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            with open_video(f"http://127.0.0.1:{server.server_port}/live.ts", timeout=1.0) as video:
                kept = len(list(video))
        finally:
            quiet.set()
            server.shutdown()
    assert 20 < kept < 80
    assert video.problem is not None
    assert video.problem.endswith("1 s")
