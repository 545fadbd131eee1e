"""What visitors bring: how much of it is taken, and under which name it is kept. The name is never theirs."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

from canton.errors import UserError

VIDEO_BYTES = 200 << 20
MODEL_BYTES = 256 << 20
PROMPT_BYTES = 16 << 10
SCORED_BYTES = 64 << 10
WRITTEN_BYTES = 8000
FRAMES = 1800
"""A minute of 30 frames a second. What is longer belongs to `canton track watch`."""
PIXELS = 4096 * 2304
"""Of a frame."""


def take(upload: str | Path, kept: Path, *, within: Path, most_bytes: int) -> Path:
    """Keep an uploaded file in the folder `kept`, under a name made up here.

    within: the folder that uploads arrive in; nothing outside it is touched, whatever `upload` says.

    Raises: UserError if it lies elsewhere, is no plain file, is empty, or larger than `most_bytes`.
    """
    path = Path(upload)
    if path.is_symlink() or not path.is_file() or not path.resolve().is_relative_to(within.resolve()):
        raise UserError("this is not a file that was uploaded here")
    size = path.stat().st_size
    if not 0 < size <= most_bytes:
        raise UserError(f"the file has {size:,} bytes: it may have 1 to {most_bytes:,}")
    own = kept / uuid.uuid4().hex
    try:
        os.link(path, own)
    except OSError:  # another disk
        shutil.copyfile(path, own)
    return own


def check_film(path: Path) -> None:
    """See from its first bytes that a file is a film and not a playlist, which would name other files, or
    addresses, for the decoder to open.

    Raises: UserError if it is none of MP4, MOV, Matroska, WebM, AVI and MPEG.
    """
    with path.open("rb") as file:
        head = file.read(189)
    film = (
        head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
        or head.startswith((b"\x1a\x45\xdf\xa3", b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3"))
        or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")
        or (len(head) == 189 and head[0] == head[188] == 0x47)
    )
    if not film:
        raise UserError("this is not a video: MP4, MOV, MKV, WebM, AVI and MPEG are taken")


def check_frame(width: int, height: int) -> None:
    """Raises: UserError for frames too large to be watched for a visitor."""
    if width * height > PIXELS:
        raise UserError(f"its frames are {width} x {height} px: they may have {PIXELS:,} px at most")


def to_bytes(text: str, most_bytes: int, what: str) -> bytes:
    """A visitor's text in UTF-8; `what` names it in the complaint.

    Raises: UserError if it is longer than `most_bytes`.
    """
    encoded = text.encode("utf-8", "replace")  # half of a surrogate pair is no character
    if len(encoded) > most_bytes:
        raise UserError(f"{what} has {len(encoded):,} bytes: it may have {most_bytes:,} at most")
    return encoded
