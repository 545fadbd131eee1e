"""Files written whole or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from canton.errors import UserError


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to that takes the place of `path` when the block ends well, and vanishes when it does
    not.

    It is written beside `path` (a rename is atomic only within one file system) and is on disk before the
    rename. Where `path` is a link, it stays one, and what it points to is replaced; a device or a pipe takes
    what is written as it comes.

    Raises: UserError for whatever the operating system says (OSError).
    """
    temporary = None
    try:
        if is_special(path):
            with path.open("wb") as straight:
                yield straight
            return
        place = resolve_link(path)
        temporary = create_temp_file(place)
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(place)
        temporary = None
        _sync_folder(place.parent)
    except OSError as error:
        raise UserError(f"cannot write {path}: {os_error_reason(error)}") from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink()


def create_temp_file(path: Path) -> Path:
    """A new, empty, hidden file in `path`'s folder that no one else writes to: what is to take the place of
    `path` begins there.

    Raises: OSError.
    """
    mode = 0o666 & ~_umask()
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        os.fchmod(descriptor, mode)  # mkstemp's 0600 would keep a shared model private
    except OSError:
        Path(name).unlink()
        raise
    finally:
        os.close(descriptor)
    return Path(name)


def is_special(path: Path) -> bool:
    """Whether `path` is a device, a pipe or the like: nothing that another file could replace."""
    return path.exists() and not path.is_file() and not path.is_dir()


def resolve_link(path: Path) -> Path:
    """What a link points to, through however many; any other path itself."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def check_writable(path: Path) -> None:
    """Find out now, and not after an hour of training, that `path` cannot be written.

    Raises: UserError if it is a directory, or its folder is missing or closed to us.
    """
    if path.is_dir():
        raise UserError(f"cannot write {path}: it is a directory")
    if is_special(path):
        if not os.access(path, os.W_OK):
            raise UserError(f"cannot write {path}: permission denied")
        return
    try:
        with tempfile.TemporaryFile(dir=resolve_link(path).parent):
            pass
    except OSError as error:
        raise UserError(f"cannot write {path}: {os_error_reason(error)}") from error


def os_error_reason(error: OSError) -> str:
    """The operating system's words, without the number; EFBIG, say, is "File too large"."""
    if error.errno == errno.ENOENT:
        return "no such file or folder"
    return (error.strerror or str(error)).lower()


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system lets a folder be opened."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
