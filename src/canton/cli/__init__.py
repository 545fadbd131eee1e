"""The `canton` command. It reads arguments, calls the library and shows; everything it does is a function
there.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

from canton.errors import UserError, missing, require


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; `argv` without the program's name, None for the process's own.

    Returns: the exit status: 0, or 2 after one line on what the user can mend, or 130 after Ctrl-C.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file's name may be no UTF-8: it is shown as far as it is
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        require("typer", extra="text")
        from canton.cli.app import run

        return run(sys.argv[1:] if argv is None else list(argv))
    except UserError as error:
        return _complain(str(error))
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "canton":
            raise
        return _complain(missing(error, extra="text"))
    except BrokenPipeError:
        sys.stdout = None  # whoever read us has left; do not write at exit either
        return 0
    except OSError as error:
        return _complain(f"{error.filename or 'input or output'}: {error.strerror or error}")
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130


def _complain(line: str) -> int:
    print(f"canton: {' '.join(line.split())}", file=sys.stderr)
    return 2
