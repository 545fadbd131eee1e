"""What visitors bring is bounded, and its name is never used as a path."""

from __future__ import annotations

from pathlib import Path

import pytest

from canton.errors import UserError
from canton.ui.uploads import PIXELS, check_film, check_frame, take, to_bytes


@pytest.fixture
def rooms(tmp_path: Path) -> tuple[Path, Path]:
    """The folder uploads arrive in, and the one they are kept in."""
    within, kept = tmp_path / "within", tmp_path / "kept"
    within.mkdir()
    kept.mkdir()
    return within, kept


def test_an_upload_is_kept_under_a_name_made_up_here(rooms: tuple[Path, Path]) -> None:
    within, kept = rooms
    (within / "evil;name .mp4").write_bytes(b"film")
    own = take(within / "evil;name .mp4", kept, within=within, most_bytes=4)
    assert own.parent == kept
    assert own.name.isalnum()
    assert own.read_bytes() == b"film"


@pytest.mark.parametrize(("size", "most"), [(0, 10), (11, 10)])
def test_nothing_empty_or_too_large_is_taken(rooms: tuple[Path, Path], size: int, most: int) -> None:
    within, kept = rooms
    (within / "film").write_bytes(b"x" * size)
    with pytest.raises(UserError, match=f"{size} bytes"):
        take(within / "film", kept, within=within, most_bytes=most)
    assert not list(kept.iterdir())


def test_what_was_not_uploaded_is_not_touched(rooms: tuple[Path, Path]) -> None:
    within, kept = rooms
    secret = within.parent / "secret"
    secret.write_text("not yours")
    (within / "link").symlink_to(secret)
    for path in (secret, within / "link", within / ".." / "secret", within, within / "nothing"):
        with pytest.raises(UserError, match="not a file that was uploaded"):
            take(path, kept, within=within, most_bytes=100)
    assert not list(kept.iterdir())


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"#EXTM3U\nfile:///etc/passwd",
        b"ffconcat version 1.0\nfile secret",
        b"RIFF\0\0\0\0WAVE",
        b"G" + b"x" * 300,
    ],
)
def test_a_playlist_or_a_sound_is_no_film(tmp_path: Path, head: bytes) -> None:
    (tmp_path / "film.mp4").write_bytes(head)
    with pytest.raises(UserError, match="not a video"):
        check_film(tmp_path / "film.mp4")


@pytest.mark.parametrize(
    "head", [b"\0\0\0\x18ftypmp42", b"\x1a\x45\xdf\xa3", b"RIFF\0\0\0\0AVI ", b"G" + b"\0" * 187 + b"G"]
)
def test_films_are_known_by_their_first_bytes(tmp_path: Path, head: bytes) -> None:
    (tmp_path / "film").write_bytes(head)
    check_film(tmp_path / "film")


def test_frames_and_texts_are_bounded() -> None:
    check_frame(PIXELS, 1)
    with pytest.raises(UserError, match="at most"):
        check_frame(PIXELS + 1, 1)
    assert to_bytes("ää", 4, "the prompt") == "ää".encode()
    with pytest.raises(UserError, match="the prompt has 6 bytes"):
        to_bytes("äää", 5, "the prompt")
    assert to_bytes("\ud800", 1, "the prompt") == b"?"
