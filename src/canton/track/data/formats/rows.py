"""Text files of rows: numbers separated by commas or spaces, with errors that name the line."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from canton.errors import UserError
from canton.track.data.formats.labels import as_number, read_text


def csv_rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the line number and the cells of every row of a CSV file with at least these columns.

    Raises:
        UserError: the file cannot be read, or a column or a cell is missing.
    """
    reader = csv.DictReader(read_text(path).splitlines())
    try:
        missing = [column for column in columns if column not in (reader.fieldnames or ())]
        if missing:
            required, absent = ", ".join(columns), ", ".join(missing)
            raise UserError(f"{path} must have the columns {required}; missing: {absent}")
        for row in reader:
            if any(row[column] is None for column in columns):
                raise UserError(f"{path}, line {reader.line_num}: a cell is missing")
            yield reader.line_num, row
    except csv.Error as error:  # a cell is too long
        raise UserError(f"{path}, line {reader.line_num + 1}: {error}") from error


def number_rows(
    path: Path, *, least: int, shape: str, separator: str | None = ","
) -> Iterator[tuple[int, list[float]]]:
    """Yield the line number and the numbers of every row that is not blank.

    Args:
        least: smallest count of numbers.
        shape: what a row must be, for the message.
        separator: between numbers. None: spaces.

    Raises:
        UserError: the file cannot be read, or a row has fewer numbers or something else.
    """
    for line, text in enumerate(read_text(path).splitlines(), 1):
        if not text.strip():
            continue
        try:
            numbers = [as_number(part) for part in text.split(separator) if part.strip()]
        except ValueError as error:
            raise UserError(f"{path}, line {line}: a row must be {shape}, got {text[:60]!r}") from error
        if len(numbers) < least:
            raise UserError(f"{path}, line {line}: a row must be {shape}, got {text[:60]!r}")
        yield line, numbers
