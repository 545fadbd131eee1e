"""The `canton` command: it parses arguments, calls the library and prints."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

from canton.errors import UserError, missing, require


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    argv: arguments without the program's name; None for those of the process.

    Returns: the exit status: 0, 2 after a one-line error, or 130 after Ctrl-C.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file name may not be UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        require("typer", extra="text")
        from canton.cli.app import run

        return run(sys.argv[1:] if argv is None else list(argv))
    except UserError as error:
        return _print_error(str(error))
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "canton":
            raise
        return _print_error(missing(error, extra="text"))
    except BrokenPipeError:
        sys.stdout = None  # the reader closed the pipe: write nothing at exit
        return 0
    except OSError as error:
        return _print_error(f"{error.filename or 'input or output'}: {error.strerror or error}")
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130


def _print_error(line: str) -> int:
    print(f"canton: {' '.join(line.split())}", file=sys.stderr)
    return 2
