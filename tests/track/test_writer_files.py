"""Existing files, links and pipes as outputs of a writer."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

pytest.importorskip("av", reason="av is not installed (canton-torch[track])")

from canton.errors import UserError
from canton.track.video.reader import open_video
from canton.track.video.writer import VideoWriter
from track.videos import HEIGHT, WIDTH, number, plain


def numbers(path: Path) -> list[int]:
    with open_video(path) as video:
        return [number(frame.pixels) for frame in video]


def test_no_frames_no_file(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", WIDTH, HEIGHT, 10):
        pass
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_kept_if_no_frame_is_written(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"an existing video")
    with VideoWriter(path, WIDTH, HEIGHT, 10):
        pass
    assert path.read_bytes() == b"an existing video"
    assert list(tmp_path.iterdir()) == [path]


def test_an_existing_file_is_kept_if_it_cannot_be_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    path = tmp_path / "out.mp4"
    path.write_bytes(b"an existing video")
    writer = VideoWriter(path, WIDTH, HEIGHT, 10)
    writer.write(plain(1))
    monkeypatch.setattr(Path, "replace", refused)
    with pytest.raises(UserError, match=r"out\.mp4: operation not permitted"):
        writer.close()
    assert path.read_bytes() == b"an existing video"
    assert list(tmp_path.iterdir()) == [path]


def test_a_pipe_is_written_in_place(tmp_path: Path) -> None:
    """Also if the reader closes it."""
    pipe, copy = tmp_path / "pipe.mp4", tmp_path / "copy.mp4"
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: copy.write_bytes(pipe.read_bytes()))
    reader.start()
    with VideoWriter(pipe, WIDTH, HEIGHT, 10) as writer:
        for k in range(25):
            writer.write(plain(k))
    reader.join()
    assert numbers(copy) == list(range(25))

    def left() -> None:
        with VideoWriter(pipe, WIDTH, HEIGHT, 10) as writer:
            for k in range(100):
                writer.write(plain(k))

    reader = threading.Thread(target=lambda: pipe.open("rb").close())
    reader.start()
    with pytest.raises(UserError, match=r"cannot write .*broken pipe"):
        left()
    reader.join()
    assert pipe.is_fifo()
    assert sorted(tmp_path.iterdir()) == [copy, pipe]


@pytest.mark.parametrize("earlier", [True, False])
def test_a_link_is_kept_and_its_target_written(tmp_path: Path, earlier: bool) -> None:
    link, target = tmp_path / "link.mp4", tmp_path / "videos" / "video.mp4"
    target.parent.mkdir()
    link.symlink_to(Path("videos") / "video.mp4")
    if earlier:
        target.write_bytes(b"an existing video")
    with VideoWriter(link, WIDTH, HEIGHT, 10) as writer:
        for k in range(15):
            writer.write(plain(k))
    assert link.is_symlink()
    assert numbers(target) == list(range(15))
    assert list(target.parent.iterdir()) == [target]


def test_two_writers_for_one_file(tmp_path: Path) -> None:
    """Each writes a temporary file; the last one to complete its first second wins."""
    path = tmp_path / "out.mp4"
    path.write_bytes(b"an existing video")
    umask = os.umask(0o027)
    try:
        first, second = (VideoWriter(path, WIDTH, HEIGHT, 10) for _ in range(2))
        for k in range(25):
            first.write(plain(k))
            second.write(plain(25 + k))
        second.close()
        first._failed = True  # as on a full disk: incomplete fragments are removed
        first.close()
    finally:
        os.umask(umask)
    assert numbers(path) == list(range(25, 50))
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]
