"""Limits on uploads, and safe copies of uploaded files: their names are never used as paths."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

from canton.errors import UserError

MAX_VIDEO_BYTES = 200 << 20
MAX_MODEL_BYTES = 256 << 20
MAX_PROMPT_BYTES = 16 << 10
MAX_SCORED_BYTES = 64 << 10
MAX_GENERATED_BYTES = 8000
MAX_FRAMES = 1800
"""One minute at 30 frames/s; `canton track watch` has no limit."""
MAX_PIXELS = 4096 * 2304
"""Of one frame."""


def save_upload(upload: str | Path, storage: Path, *, uploads: Path, max_bytes: int) -> Path:
    """Copy an uploaded file to the folder `storage` under a random name, and return its path.

    uploads: folder that uploads arrive in; a file elsewhere is refused.

    Raises: UserError if the file is elsewhere, not a regular file, empty, or larger than `max_bytes`.
    """
    path = Path(upload)
    if path.is_symlink() or not path.is_file() or not path.resolve().is_relative_to(uploads.resolve()):
        raise UserError("this file was not uploaded here")
    size = path.stat().st_size
    if not 0 < size <= max_bytes:
        raise UserError(f"the file must have 1 to {max_bytes:,} bytes, got {size:,}")
    copy = storage / uuid.uuid4().hex
    try:
        os.link(path, copy)
    except OSError:  # another file system
        shutil.copyfile(path, copy)
    return copy


def check_video_type(path: Path) -> None:
    """Check by its first bytes that a file is a video. A playlist could make the decoder open other files.

    Raises: UserError if it is not MP4, MOV, Matroska, WebM, AVI or MPEG.
    """
    with path.open("rb") as file:
        head = file.read(189)
    is_video = (
        head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
        or head.startswith((b"\x1a\x45\xdf\xa3", b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3"))
        or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")
        or (len(head) == 189 and head[0] == head[188] == 0x47)
    )
    if not is_video:
        raise UserError("this is not a video: expected MP4, MOV, MKV, WebM, AVI or MPEG")


def check_frame_size(width: int, height: int) -> None:
    """Raises: UserError if frames of this size are too large for the page."""
    if width * height > MAX_PIXELS:
        raise UserError(f"frames must have at most {MAX_PIXELS:,} px, got {width} x {height}")


def encode_text(text: str, max_bytes: int, what: str) -> bytes:
    """Return a visitor's text in UTF-8.

    what: its name in the error message.

    Raises: UserError if it has more than `max_bytes`.
    """
    encoded = text.encode("utf-8", "replace")  # a lone surrogate cannot be encoded
    if len(encoded) > max_bytes:
        raise UserError(f"{what} must have at most {max_bytes:,} bytes, got {len(encoded):,}")
    return encoded
