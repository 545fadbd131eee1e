"""Where a command writes to, looked at before it begins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from canton.errors import UserError

TEXTS = ("json", "csv")
"""Options whose output may go to standard output."""


def check_outputs(outputs: Mapping[str, Path | None], *, inputs: Iterable[str]) -> None:
    """outputs: by option; None where it was not given, - for standard output.

    Raises: UserError if an output is another's, or an input, or cannot be written.
    """
    from canton.io.atomic import check_writable

    read = {Path(name).resolve() for name in inputs}
    taken, straight = set[Path](), list[str]()
    for option, path in outputs.items():
        if path is None:
            continue
        if str(path) == "-":
            if option not in TEXTS:
                raise UserError(f"--{option} is -: it is written to a file")
            straight.append(f"--{option}")
            continue
        if path.resolve() in read:
            raise UserError(f"--{option} is {path}, which is read: write to another file")
        if path.resolve() in taken:
            raise UserError(f"{path} is named twice: every output needs a file of its own")
        taken.add(path.resolve())
        check_writable(path)
    if len(straight) > 1:
        raise UserError(f"{' and '.join(straight)} are both -: standard output takes one of them")
