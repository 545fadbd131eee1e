"""Files of tensors that can be trusted: safetensors with a JSON header, written whole or not at all.

The header is a flat table of JSON values. Two entries belong to this file: `format` says what kind of file it
is, `checksum` is the SHA-256 of everything else, so that a changed byte is found wherever it sits. Nothing is
ever unpickled.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from canton.errors import UserError, require

JSON = Any  # what json.loads returns


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, JSON], *, format: str
) -> None:
    """Write `tensors` and `header` to `path`, replacing an earlier file only once the new one is safely on
    disk.

    Raises: UserError if it cannot be written (no permission, disk full); an earlier file at `path` is then
    untouched.
    """
    save = require("safetensors.torch", extra="text").save
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    table = {"format": format, **{name: json.dumps(value) for name, value in header.items()}}
    table["checksum"] = _checksum(plain, table)
    content: bytes = save(plain, metadata=table)
    with replacing(path) as file:
        file.write(content)


def read_tensors(path: Path, *, format: str) -> tuple[dict[str, Tensor], dict[str, JSON]]:
    """The tensors and the header of a file that `write_tensors` made.

    Raises: UserError, one line, if the file is missing, unreadable, cut short, of another format, or was
    changed.
    """
    load = require("safetensors.torch", extra="text").load
    content = _content(path)
    raw = _raw_header(path, content)
    if raw.get("format") != format:
        found = f"its format is {raw['format']!r}" if "format" in raw else "it was not written by Canton"
        raise UserError(f"{path} is not a {format} file: {found}")
    try:
        tensors: dict[str, Tensor] = load(content)
        header = {k: json.loads(v) for k, v in raw.items() if k not in ("format", "checksum")}
        checksum = _checksum(tensors, raw)
    except Exception as error:  # safetensors' own error class is not public
        raise UserError(f"{path} is cut short or damaged: {_first_line(error)}") from error
    if raw.get("checksum") != checksum:
        raise UserError(f"{path} was changed after it was written: its checksum does not fit its content")
    return tensors, header


def read_header(path: Path) -> dict[str, JSON]:
    """The header alone, `format` and `checksum` included. Says nothing about whether the tensors are
    sound.
    """
    raw = _raw_header(path, _content(path))
    try:
        return {k: v if k in ("format", "checksum") else json.loads(v) for k, v in raw.items()}
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} has a header that Canton did not write") from error


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
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
        place = behind_link(path)
        temporary = new_beside(place)
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(place)
        temporary = None
        _sync_folder(place.parent)
    except OSError as error:
        raise UserError(f"cannot write {path}: {reason(error)}") from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink()


def new_beside(path: Path) -> Path:
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


def behind_link(path: Path) -> Path:
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
        with tempfile.TemporaryFile(dir=behind_link(path).parent):
            pass
    except OSError as error:
        raise UserError(f"cannot write {path}: {reason(error)}") from error


def reason(error: OSError) -> str:
    """The operating system's words, without the number; EFBIG, say, is "File too large"."""
    if error.errno == errno.ENOENT:
        return "no such file or folder"
    return (error.strerror or str(error)).lower()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason(error)}") from error


def _raw_header(path: Path, content: bytes) -> dict[str, str]:
    """safetensors: eight bytes say how long the JSON table is that follows; its `__metadata__` is text to
    text.
    """
    length = int.from_bytes(content[:8], "little")
    try:
        table = json.loads(content[8 : 8 + length]) if 0 < length <= len(content) - 8 else None
        raw = table.get("__metadata__", {}) if isinstance(table, dict) else None
    except (ValueError, RecursionError):  # brackets in brackets in brackets
        raw = None
    if not isinstance(raw, dict) or not all(isinstance(value, str) for value in raw.values()):
        raise UserError(f"{path} is not a safetensors file, or was cut short")
    return raw


def _checksum(tensors: Mapping[str, Tensor], table: Mapping[str, str]) -> str:
    digest = hashlib.sha256()
    rest = {name: value for name, value in table.items() if name != "checksum"}
    digest.update(json.dumps(rest, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


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


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
