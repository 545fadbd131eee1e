"""Uploads are limited, and their names are never used as paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from canton.errors import UserError
from canton.ui.uploads import MAX_PIXELS, check_frame_size, check_video_type, encode_text, save_upload


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Return the folder that uploads arrive in, and the folder for copies."""
    uploads, storage = tmp_path / "uploads", tmp_path / "storage"
    uploads.mkdir()
    storage.mkdir()
    return uploads, storage


def test_an_upload_is_copied_to_a_random_name(folders: tuple[Path, Path]) -> None:
    uploads, storage = folders
    (uploads / "evil;name .mp4").write_bytes(b"video")
    copy = save_upload(uploads / "evil;name .mp4", storage, uploads=uploads, max_bytes=5)
    assert copy.parent == storage
    assert copy.name.isalnum()
    assert copy.read_bytes() == b"video"


@pytest.mark.parametrize(("size", "most"), [(0, 10), (11, 10)])
def test_empty_and_large_files_are_refused(folders: tuple[Path, Path], size: int, most: int) -> None:
    uploads, storage = folders
    (uploads / "video").write_bytes(b"x" * size)
    with pytest.raises(UserError, match="bytes"):
        save_upload(uploads / "video", storage, uploads=uploads, max_bytes=most)
    assert not list(storage.iterdir())


def test_files_outside_the_upload_folder_are_refused(folders: tuple[Path, Path]) -> None:
    uploads, storage = folders
    secret = uploads.parent / "secret"
    secret.write_text("secret text")
    (uploads / "link").symlink_to(secret)
    for path in (secret, uploads / "link", uploads / ".." / "secret", uploads, uploads / "nothing"):
        with pytest.raises(UserError, match="not uploaded"):
            save_upload(path, storage, uploads=uploads, max_bytes=100)
    assert not list(storage.iterdir())


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
def test_playlists_and_audio_are_refused(tmp_path: Path, head: bytes) -> None:
    (tmp_path / "video.mp4").write_bytes(head)
    with pytest.raises(UserError, match="not a video"):
        check_video_type(tmp_path / "video.mp4")


@pytest.mark.parametrize(
    "head", [b"\0\0\0\x18ftypmp42", b"\x1a\x45\xdf\xa3", b"RIFF\0\0\0\0AVI ", b"G" + b"\0" * 187 + b"G"]
)
def test_videos_are_recognised_by_their_first_bytes(tmp_path: Path, head: bytes) -> None:
    (tmp_path / "video").write_bytes(head)
    check_video_type(tmp_path / "video")


def test_frame_size_and_text_length_are_limited() -> None:
    check_frame_size(MAX_PIXELS, 1)
    with pytest.raises(UserError, match="frames"):
        check_frame_size(MAX_PIXELS + 1, 1)
    assert encode_text("ää", 4, "the prompt") == "ää".encode()
    with pytest.raises(UserError, match="the prompt"):
        encode_text("äää", 5, "the prompt")
    assert encode_text("\ud800", 1, "the prompt") == b"?"
