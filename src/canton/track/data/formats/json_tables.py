"""JSON label files: parsing, and errors that name the entry."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from canton.errors import UserError
from canton.track.data.formats.labels import read_text

T = TypeVar("T")
Entry = dict[str, Any]


def read_json(path: Path, kind: str) -> Any:
    """Return the content of a JSON file.

    Raises:
        UserError: it cannot be read or is not JSON.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not {kind}: {error}") from error


def parse_entries(path: Path, name: str, entries: Any, parse: Callable[[Entry], T]) -> list[T]:
    """Return `parse` of each entry of a list.

    Raises:
        UserError: there is no list, or `parse` fails; names the entry, counted from 0.
    """
    if not isinstance(entries, list):
        raise UserError(f"{path} must have a list {name}, got {type(entries).__name__}")
    parsed: list[T] = []
    try:
        parsed.extend(parse(entry) for entry in entries)  # keeps the entries before one that fails
    except UserError:
        raise
    except KeyError as error:
        raise UserError(f"{path}, {name}, entry {len(parsed)}: {error} is missing") from error
    except (TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise UserError(f"{path}, {name}, entry {len(parsed)}: {error}") from error
    return parsed
