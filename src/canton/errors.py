"""Errors that a user can fix. The commands print them in one line and exit with status 2."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType


class UserError(ValueError):
    """Error of a file, a setting or the machine. The message says what to do."""


class MissingExtra(UserError, ImportError):
    """Error for a missing optional package. The message names the extra that installs it."""


def require(module: str, *, extra: str) -> ModuleType:
    """Import `module`, which `canton-torch[extra]` installs.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtra(missing(error, extra=extra)) from error


def missing(error: ModuleNotFoundError, *, extra: str) -> str:
    """Return a line that names the missing package and the command that installs it."""
    package = (error.name or "a package").partition(".")[0].replace("_", "-")
    return f"{package} is not installed: pip install 'canton-torch[{extra}]'"
