"""Where a writer writes: beside an earlier film, through a link, into a pipe."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

pytest.importorskip("av", reason="av is not here (canton-torch[track])")

from canton.errors import UserError
from canton.track.video.reader import open_video
from canton.track.video.writer import VideoWriter
from track.films import HEIGHT, WIDTH, number, plain


def numbers(path: Path) -> list[int]:
    with open_video(path) as video:
        return [number(frame.pixels) for frame in video]


def test_without_a_frame_there_is_no_file(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", WIDTH, HEIGHT, 10):
        pass
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_film_stays_where_no_frame_is_written(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"an earlier film")
    with VideoWriter(path, WIDTH, HEIGHT, 10):
        pass
    assert path.read_bytes() == b"an earlier film"
    assert list(tmp_path.iterdir()) == [path]


def test_an_earlier_film_stays_where_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    path = tmp_path / "out.mp4"
    path.write_bytes(b"an earlier film")
    writer = VideoWriter(path, WIDTH, HEIGHT, 10)
    writer.write(plain(1))
    monkeypatch.setattr(Path, "replace", refused)
    with pytest.raises(UserError, match=r"out\.mp4: operation not permitted"):
        writer.close()
    assert path.read_bytes() == b"an earlier film"
    assert list(tmp_path.iterdir()) == [path]


def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    """Also where its reader leaves."""
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
def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path: Path, earlier: bool) -> None:
    link, film = tmp_path / "link.mp4", tmp_path / "films" / "film.mp4"
    film.parent.mkdir()
    link.symlink_to(Path("films") / "film.mp4")
    if earlier:
        film.write_bytes(b"an earlier film")
    with VideoWriter(link, WIDTH, HEIGHT, 10) as writer:
        for k in range(15):
            writer.write(plain(k))
    assert link.is_symlink()
    assert numbers(film) == list(range(15))
    assert list(film.parent.iterdir()) == [film]


def test_two_recorders_onto_one_earlier_film(tmp_path: Path) -> None:
    """Each has a file of its own; the film is the one whose first second was whole last, and stays that."""
    path = tmp_path / "out.mp4"
    path.write_bytes(b"an earlier film")
    umask = os.umask(0o027)
    try:
        first, second = (VideoWriter(path, WIDTH, HEIGHT, 10) for _ in range(2))
        for k in range(25):
            first.write(plain(k))
            second.write(plain(25 + k))
        second.close()
        first._failed = True  # as on a full disk: what is not whole is cut off
        first.close()
    finally:
        os.umask(umask)
    assert numbers(path) == list(range(25, 50))
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]
