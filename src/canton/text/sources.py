"""Texts to read: files and folders, plain or compressed, JSON Lines and Parquet.

A plain file stays where it is and is mapped into memory when it is read. Everything else is decoded,
as a stream, into one temporary file.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import stat
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from canton.errors import UserError, require
from canton.io.atomic import os_error_reason
from canton.text.types import Bytes

ROWS = (".jsonl", ".ndjson")
PARQUET = ".parquet"
MAX_OPEN = 64
"""Files that are mapped at the same time."""
SIGNATURES = {
    b"\x1f\x8b": "gzip (.gz)",
    b"BZh": "bzip2 (.bz2)",
    b"\xfd7zXZ\x00": "xz (.xz)",
    b"\x28\xb5\x2f\xfd": "Zstandard (.zst)",
    b"PAR1": "Parquet (.parquet)",
    b"PK\x03\x04": "a zip archive",
    b"%PDF": "PDF",
}
"""The first bytes of files that are no text."""
DAMAGED = (EOFError, zlib.error, lzma.LZMAError)


class Part(NamedTuple):
    """Consecutive bytes of a text.

    Attributes:
        file: the plain file that has them from its start on; None: the temporary file.
        size: their number.
    """

    file: Path | None
    size: int


class Sources:
    """The bytes of files, one after the other, and where their documents start.

    A document is a file, or a row of JSON Lines or Parquet.

    Args:
        files: files, folders and `-`, standard input. Of a folder all files are read, in the order of their
            paths, without those whose name starts with a dot.
        glob: pattern of the names of a folder's files.
        field: name of the text in a row.

    Attributes:
        starts: int64, the positions at which the documents start.
        hints: one line for each file that is probably no text.

    Raises:
        UserError: a file is missing, unreadable, empty or damaged, or a row has no such text.
    """

    def __init__(self, files: Sequence[Path], *, glob: str = "*", field: str = "text") -> None:
        self.hints: list[str] = []
        self._parts: list[Part] = []
        starts: list[int] = []
        total = 0
        with ExitStack() as stack:
            spool = stack.enter_context(tempfile.TemporaryFile())
            spooled = 0
            for file in _expand(files, glob):
                if _is_plain(file):
                    size = _check_plain(file, self.hints)
                    starts.append(total)
                    self._parts.append(Part(file, size))
                    total += size
                    continue
                for document in _documents(file, field):
                    before = spool.tell()
                    for chunk in document:
                        spool.write(chunk)
                    if spool.tell() > before:
                        starts.append(total)
                        total += spool.tell() - before
                if spool.tell() == spooled:
                    raise UserError(f"cannot read {file}: it has no text")
                self._parts.append(Part(None, spool.tell() - spooled))
                spooled = spool.tell()
            spool.flush()
            self._spool = np.memmap(spool, np.uint8, mode="r") if spooled else np.zeros(0, np.uint8)
        sizes = [part.size for part in self._parts]
        self._ends = np.cumsum(sizes, dtype=np.int64)
        inside = [0 if part.file else part.size for part in self._parts]
        self._spooled = np.cumsum([0, *inside], dtype=np.int64)
        self.starts = np.array(starts, np.int64)
        self._map = lru_cache(maxsize=MAX_OPEN)(_map)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def read(self, start: int, stop: int) -> Bytes:
        """Return the bytes from `start` to `stop`, not included."""
        stop = min(stop, len(self))
        out = np.empty(max(stop - start, 0), np.uint8)
        first = start
        part = int(np.searchsorted(self._ends, start, side="right"))
        while start < stop and part < len(self._parts):
            file, size = self._parts[part]
            begin = int(self._ends[part]) - size
            end = min(stop, begin + size)
            shift = 0 if file else int(self._spooled[part])
            text = self._map(file, size) if file else self._spool
            out[start - first : end - first] = text[shift + start - begin : shift + end - begin]
            start, part = end, part + 1
        return out


def map_file(file: Path) -> Bytes:
    """Return the bytes of a file as one array; `-`: of standard input. Compressed files are decoded.

    Raises:
        UserError: the file is missing, unreadable, damaged, a directory or empty.
    """
    if str(file) != "-" and file.is_dir():
        raise UserError(f"cannot read {file}: it is a directory")
    if str(file) != "-" and _is_plain(file):
        return _map(file, _check_plain(file, []))
    with tempfile.TemporaryFile() as spool:
        for chunk in _chunks(file):
            spool.write(chunk)
        spool.flush()
        if str(file) != "-" and not spool.tell():
            raise UserError(f"cannot read {file}: it is empty")
        return np.memmap(spool, np.uint8, mode="r") if spool.tell() else np.zeros(0, np.uint8)


def _expand(files: Sequence[Path], glob: str) -> Iterator[Path]:
    for file in files:
        if str(file) == "-" or not file.is_dir():
            yield file
            continue
        inside = [path for path in sorted(file.rglob(glob)) if _is_visible(path.relative_to(file))]
        found = [path for path in inside if path.is_file() and path.stat().st_size]
        if not found:
            raise UserError(f"{file} must have files that match {glob}, found none: choose others with glob")
        yield from found


def _is_visible(path: Path) -> bool:
    return not any(name.startswith(".") for name in path.parts)


def _is_plain(file: Path) -> bool:
    """Return whether a file can be mapped as it is: a regular file without a known suffix."""
    if str(file) == "-" or file.suffix.lower() in (*DECODERS, *ROWS, PARQUET):
        return False
    try:
        return stat.S_ISREG(file.stat().st_mode)
    except OSError as error:
        raise UserError(f"cannot read {file}: {os_error_reason(error)}") from error


def _check_plain(file: Path, hints: list[str]) -> int:
    try:
        with file.open("rb") as opened:
            first = opened.read(4096)
        size = file.stat().st_size
    except OSError as error:
        raise UserError(f"cannot read {file}: {os_error_reason(error)}") from error
    if not first:
        raise UserError(f"cannot read {file}: it is empty")
    kind = next((kind for signature, kind in SIGNATURES.items() if first.startswith(signature)), None)
    if kind is None and first.count(0) > len(first) // 100:
        kind = "a binary file"
    if kind is not None:
        hints.append(f"{file} looks like {kind} and is read as plain bytes")
    return size


def _map(file: Path, size: int) -> Bytes:
    try:
        found = np.memmap(file, np.uint8, mode="r")
    except (OSError, ValueError) as error:
        reason = os_error_reason(error) if isinstance(error, OSError) else str(error)
        raise UserError(f"cannot map {file}: {reason}") from error
    if len(found) < size:
        raise UserError(f"{file} must not change while it is read: it has {len(found)} bytes, had {size}")
    return found


class _ZstdFile(io.RawIOBase):
    """The decompressed bytes of a Zstandard file of one or more frames, as `gzip.GzipFile` gives them."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._library = file, require("zstandard", extra="corpora")
        self._frame: Any = None
        self._read, self._decoded = b"", b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._decoded:
            self._read = self._read or self._file.read(1 << 17)
            if not self._read:
                if self._frame is not None:
                    raise EOFError("it ends within a frame")
                return 0
            self._frame = self._frame or self._library.ZstdDecompressor().decompressobj()
            self._decoded = self._frame.decompress(self._read)
            self._read = self._frame.unused_data if self._frame.eof else b""
            self._frame = None if self._frame.eof else self._frame
        size = min(len(buffer), len(self._decoded))
        buffer[:size], self._decoded = self._decoded[:size], self._decoded[size:]
        return size


DECODERS: dict[str, Callable[[Any], Any]] = {
    ".gz": lambda file: gzip.GzipFile(fileobj=file),
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
    ".zst": lambda file: io.BufferedReader(_ZstdFile(file)),
}
"""The decoder of each suffix, from an open file."""


@contextmanager
def _open(file: Path) -> Iterator[IO[bytes]]:
    """Open a file, or standard input for `-`, decoded as its suffix says."""
    if str(file) == "-":
        yield sys.stdin.buffer
        return
    try:
        with ExitStack() as stack:
            raw = stack.enter_context(file.open("rb"))
            decode = DECODERS.get(file.suffix.lower())
            if decode is None:
                yield raw
                return
            yield stack.enter_context(closing(decode(raw)))
    except UserError:
        raise
    except DAMAGED as error:
        raise UserError(f"cannot decode {file}: {error}") from error
    except OSError as error:
        reason = os_error_reason(error) if error.errno else f"it is damaged ({error})"
        raise UserError(f"cannot read {file}: {reason}") from error
    except Exception as error:
        if type(error).__name__ != "ZstdError":  # of an optional package
            raise
        raise UserError(f"cannot decode {file}: {error}") from error


def _documents(file: Path, field: str) -> Iterator[Iterator[bytes]]:
    """Yield the chunks of each document of a file that is not plain."""
    suffixes = [suffix.lower() for suffix in file.suffixes]
    kind = (
        suffixes[-2] if len(suffixes) > 1 and suffixes[-1] in DECODERS else suffixes[-1] if suffixes else ""
    )
    if kind == PARQUET:
        if suffixes[-1] != PARQUET:
            raise UserError(f"cannot read {file}: a compressed Parquet file must be decompressed first")
        yield from (iter([text]) for text in _parquet(file, field))
        return
    if kind not in ROWS:
        yield _chunks(file)
        return
    with _open(file) as opened:
        for number, line in enumerate(opened, 1):
            if line.strip():
                yield iter([_row_text(line, field, f"{file} line {number}")])


def _chunks(file: Path) -> Iterator[bytes]:
    with _open(file) as opened:
        while chunk := opened.read(1 << 20):
            yield chunk


def _row_text(line: bytes, field: str, where: str) -> bytes:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} must be JSON: {error}") from error
    text = row.get(field) if isinstance(row, dict) else None
    if not isinstance(text, str):
        raise UserError(f"{where} must be an object with a text named {field}: choose another with field")
    return text.encode("utf-8", "surrogatepass")


def _parquet(file: Path, field: str) -> Iterator[bytes]:
    parquet = require("pyarrow.parquet", extra="corpora")
    try:
        table = parquet.ParquetFile(file)
        if field not in table.schema_arrow.names:
            names = ", ".join(table.schema_arrow.names)
            raise UserError(f"field must be a column of {file}, one of {names}, got {field}")
        for batch in table.iter_batches(batch_size=1024, columns=[field]):
            for value in batch.column(0).to_pylist():
                if isinstance(value, (str, bytes)):
                    yield value.encode() if isinstance(value, str) else value
                elif value is not None:
                    raise UserError(f"field {field} of {file} must be text, got {type(value).__name__}")
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"cannot read {file}: {os_error_reason(error)}") from error
    except Exception as error:
        if not type(error).__module__.startswith("pyarrow"):
            raise
        raise UserError(f"cannot decode {file}: {error}") from error
