"""Files of tensors that can be trusted: safetensors with a JSON header, written whole or not at all.

The header is a flat table of JSON values. Two entries belong to this file: `format` says what kind of file it
is, `checksum` is the SHA-256 of everything else, so that a changed byte is found wherever it sits. Nothing is
ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from canton.errors import UserError, require
from canton.io.atomic import atomic_write, os_error_reason

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
    with atomic_write(path) as file:
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


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {os_error_reason(error)}") from error


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


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
