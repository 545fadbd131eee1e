"""Atomic file writes."""

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
    """Open a file that replaces `path` when the block ends without an error.

    It is written next to `path`, because a rename is atomic only within a file system, and is synced to disk
    before the rename. If `path` is a symbolic link, its target is replaced. A device or a pipe is written
    directly.

    Raises: UserError for any OSError.
    """
    temporary = None
    try:
        if is_special(path):
            with path.open("wb") as direct:
                yield direct
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
    """Create an empty hidden file in `path`'s folder, with the permissions of a new file.

    Raises: OSError.
    """
    mode = 0o666 & ~_umask()
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        os.fchmod(descriptor, mode)  # mkstemp's 0600 would make a shared model private
    except OSError:
        Path(name).unlink()
        raise
    finally:
        os.close(descriptor)
    return Path(name)


def is_special(path: Path) -> bool:
    """Return whether `path` is a device, a pipe or a socket, which cannot be replaced."""
    return path.exists() and not path.is_file() and not path.is_dir()


def resolve_link(path: Path) -> Path:
    """Return the target of a symbolic link; any other path as it is."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def check_writable(path: Path) -> None:
    """Check that `path` can be written.

    Raises: UserError if it is a directory, or its folder is missing or not writable.
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
    """Return the operating system's message without its number, such as "file too large"."""
    if error.errno == errno.ENOENT:
        return "no such file or folder"
    return (error.strerror or str(error)).lower()


def _sync_folder(folder: Path) -> None:
    """Make the rename durable, where a folder can be opened."""
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
