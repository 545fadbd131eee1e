"""Lock of an output file, so that two runs do not write it."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from canton.errors import UserError
from canton.io.atomic import is_special, os_error_reason, resolve_link


@contextmanager
def lock_output(path: Path) -> Iterator[None]:
    """Hold the lock of `path` within the block: a lock on the file `.NAME.lock` beside it.

    The system releases the lock when the process ends, however it ends. Temporary files that a killed process
    left beside `path` are removed. A device or a pipe is not locked, nor is any file where the system has no
    flock (Windows).

    Raises: UserError if another process holds the lock, or the lock file cannot be written.
    """
    try:
        import fcntl
    except ModuleNotFoundError:
        yield
        return
    if is_special(path):
        yield
        return
    place = resolve_link(path)
    lock = place.with_name(f".{place.name}.lock")
    descriptor = _acquire(lock, path, fcntl)
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        for left in place.parent.glob(f".{glob.escape(place.name)}.*.part"):
            with suppress(OSError):
                left.unlink()
        yield
    finally:
        with suppress(OSError):
            lock.unlink()
        os.close(descriptor)


def _acquire(lock: Path, path: Path, fcntl: Any) -> int:
    """Return a locked descriptor of the file `lock`."""
    while True:
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise UserError(f"cannot write {lock}: {os_error_reason(error)}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.read(descriptor, 20).decode("ascii", "replace") or "unknown"
            os.close(descriptor)
            raise UserError(f"another run (process {owner}) writes {path}: choose another file") from error
        with suppress(OSError):
            if os.path.samestat(os.fstat(descriptor), lock.stat()):
                return descriptor
        os.close(descriptor)  # its last owner has just removed the file
