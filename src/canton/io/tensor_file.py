"""Tensor files: safetensors with a JSON header and a checksum, written atomically.

The header maps names to JSON values. `format` names the kind of file; `checksum` is the SHA-256 of everything
else, so that a changed byte is detected. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import torch
from torch import Tensor

from canton.errors import UserError, require
from canton.io.atomic import atomic_write, is_special, os_error_reason

JSON = Any  # what json.loads returns


DTYPES = (
    torch.float64, torch.float32, torch.float16, torch.bfloat16,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
)  # fmt: skip
"""The types of a file's tensors."""

MAX_DEPTH = 32
"""Largest depth of nested lists and objects in a header."""


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, JSON], *, format: str
) -> None:
    """Write `tensors` and `header` to `path`; an earlier file is replaced once the new one is on disk.

    Raises: UserError if it cannot be written; an earlier file at `path` is then unchanged.
    """
    save = require("safetensors.torch", extra="text").save
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    table = {"format": format, **{name: json.dumps(value) for name, value in header.items()}}
    table["checksum"] = _checksum(plain, table)
    content: bytes = save(plain, metadata=table)
    with atomic_write(path) as file:
        file.write(content)


def read_tensors(path: Path, *, format: str) -> tuple[dict[str, Tensor], dict[str, JSON]]:
    """Return the tensors and the header of a file that `write_tensors` wrote.

    Raises: UserError, one line, if the file is missing, unreadable, truncated, changed or of another format.
    """
    with _open(path) as file:
        raw: dict[str, str] = file.metadata() or {}
        if raw.get("format") != format:
            found = "it was not written by Canton"
            if "format" in raw:
                found = f"got format {raw['format']!r}, of another kind of file or another version of Canton"
            raise UserError(f"{path} is not a {format} file: {found}")
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES:
            raise UserError(f"{path}: tensor {name} has the type {tensor.dtype}, which Canton does not write")
    if raw.get("checksum") != _checksum(tensors, raw):
        raise UserError(f"{path} was changed after it was written: its checksum does not match")
    return tensors, _parse(path, raw)


def read_header(path: Path) -> dict[str, JSON]:
    """Return the header alone, with `format` and `checksum`; the tensors are not checked.

    Raises: UserError, one line, if the file is missing, unreadable or of another format.
    """
    with _open(path) as file:
        raw: dict[str, str] = file.metadata() or {}
    return {name: raw[name] for name in ("format", "checksum") if name in raw} | _parse(path, raw)


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    safe_open = require("safetensors", extra="text").safe_open
    with ExitStack() as stack:
        try:
            file, place = stack.enter_context(path.open("rb")), path
            if is_special(path):  # safe_open maps a file into memory, and a pipe cannot be mapped
                copy = stack.enter_context(NamedTemporaryFile())
                shutil.copyfileobj(file, copy)
                copy.flush()
                place = Path(copy.name)
            yield stack.enter_context(safe_open(place, "pt"))
        except UserError:
            raise
        except OSError as error:
            raise UserError(f"cannot read {path}: {os_error_reason(error)}") from error
        except Exception as error:  # SafetensorError is not a public name
            raise UserError(f"{path} is not a safetensors file, or is damaged: {error}") from error


def _parse(path: Path, raw: Mapping[str, str]) -> dict[str, JSON]:
    try:
        table = {name: json.loads(raw[name]) for name in sorted(raw) if name not in ("format", "checksum")}
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} has a header that Canton did not write") from error
    nested: list[tuple[JSON, int]] = [(table, 0)]
    while nested:
        value, depth = nested.pop()
        if depth > MAX_DEPTH or (isinstance(value, str) and "\0" in value):
            raise UserError(f"{path} has a header that Canton did not write")
        if isinstance(value, (dict, list)):
            inner = [*value, *value.values()] if isinstance(value, dict) else value
            nested += [(each, depth + 1) for each in inner]
    return table


def _checksum(tensors: Mapping[str, Tensor], table: Mapping[str, str]) -> str:
    digest = hashlib.sha256()
    rest = {name: value for name, value in table.items() if name != "checksum"}
    digest.update(json.dumps(rest, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
