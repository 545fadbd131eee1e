"""Text files that are written line by line."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO

from canton.errors import UserError
from canton.io.atomic import atomic_write, is_special, os_error_reason


class LineWriter:
    """Write lines to a file, each whole and at once, and keep them however the block ends.

    An earlier file at `path` stays until the first line is on disk, or until the block ends without a line
    and without an error.

    Raises: UserError for any OSError; the earlier lines are kept.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None
        self._size = 0

    def __enter__(self) -> LineWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._file is None and kind is None:
                self._create(b"")
            if self._file is not None:
                with self._file:
                    if self.path.is_file():
                        os.fsync(self._file.fileno())
        except OSError as problem:
            if kind is None:  # do not replace an earlier exception
                raise self._user_error(problem) from problem

    def write(self, lines: Iterable[str]) -> None:
        """Append lines, all of them or none."""
        content = "".join(f"{line}\n" for line in lines).encode()
        if not content:
            return
        try:
            if self._file is None:
                self._create(content)
            else:
                self._append(self._file, content)
        except OSError as problem:
            raise self._user_error(problem) from problem

    def _create(self, content: bytes) -> None:
        if is_special(self.path):
            self._file = self.path.open("wb", buffering=0)
            self._append(self._file, content)
            return
        with atomic_write(self.path) as file:
            file.write(content)
        self._file, self._size = self.path.open("ab", buffering=0), len(content)

    def _append(self, file: IO[bytes], content: bytes) -> None:
        rest = memoryview(content)
        try:
            while rest:  # a nearly full disk may accept a part
                rest = rest[file.write(rest) :]
        except OSError:
            with suppress(OSError):
                file.truncate(self._size)
            raise
        self._size += len(content)

    def _user_error(self, problem: OSError) -> UserError:
        return UserError(f"cannot write {self.path}: {os_error_reason(problem)}")
