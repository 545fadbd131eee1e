"""Errors a person can mend. The commands show each as one line, and leave with exit status 2."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType


class UserError(ValueError):
    """Something outside the program is wrong: a file, a setting, a full disk. The message says what to do."""


class MissingExtra(UserError, ImportError):
    """A package that only some users need is not installed; the message names the extra that brings it."""


def require(module: str, *, extra: str) -> ModuleType:
    """Import `module`, which the extra `canton-torch[extra]` brings.

    Raises: MissingExtra, one line, if it is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtra(missing(error, extra=extra)) from error


def missing(error: ModuleNotFoundError, *, extra: str) -> str:
    """The line that says which package is missing and what brings it."""
    package = (error.name or "a package").partition(".")[0].replace("_", "-")
    return f"{package} is not installed; this needs it: pip install 'canton-torch[{extra}]'"
