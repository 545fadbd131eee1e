"""Files of lines that grow while a video is watched."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO

from canton.errors import UserError
from canton.io.atomic import atomic_write, is_special, os_error_reason


class Lines:
    """A file that has every line, whole, as soon as it is written, and keeps it however the writing ends.

    An earlier file at `path` stays until the first line is on disk, or the block ends well without one.

    Raises: UserError for whatever the operating system says; the lines before it are kept.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None
        self._size = 0

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._file is None and kind is None:
                self._begin(b"")
            if self._file is not None:
                with self._file:
                    if self.path.is_file():
                        os.fsync(self._file.fileno())
        except OSError as problem:
            if kind is None:  # or else what went wrong first is what the user is to hear
                raise self._complaint(problem) from problem

    def write(self, lines: Iterable[str]) -> None:
        """Add lines, all of them or none."""
        content = "".join(f"{line}\n" for line in lines).encode()
        if not content:
            return
        try:
            if self._file is None:
                self._begin(content)
            else:
                self._append(self._file, content)
        except OSError as problem:
            raise self._complaint(problem) from problem

    def _begin(self, content: bytes) -> None:
        if is_special(self.path):
            self._file = self.path.open("wb", buffering=0)
            self._append(self._file, content)
            return
        with atomic_write(self.path) as file:
            file.write(content)
        self._file, self._size = self.path.open("ab", buffering=0), len(content)

    def _append(self, file: IO[bytes], content: bytes) -> None:
        left = memoryview(content)
        try:
            while left:  # a disk that is nearly full takes a part
                left = left[file.write(left) :]
        except OSError:
            with suppress(OSError):
                file.truncate(self._size)
            raise
        self._size += len(content)

    def _complaint(self, problem: OSError) -> UserError:
        return UserError(f"cannot write {self.path}: {os_error_reason(problem)}")
