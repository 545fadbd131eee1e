"""Read and run the code blocks of a Markdown page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

MINUTES = "0.1"
_FENCE = re.compile(r"^```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^```$", re.M | re.S)


class Block(NamedTuple):
    """A fenced block: its language ("" for none), its code, and the page's line where the code begins."""

    language: str
    code: str
    line: int


def blocks(page: Path) -> list[Block]:
    """Return all fenced blocks of a page, in order."""
    text = page.read_text("utf-8")
    return [
        Block(found["language"], found["code"], text.count("\n", 0, found.start("code")) + 1)
        for found in _FENCE.finditer(text)
    ]


def run_python(page: Path) -> int:
    """Run a page's Python blocks as one program and return their number.

    Tracebacks show the page's line numbers.
    """
    scope: dict[str, object] = {"__name__": page.stem}
    count = 0
    for block in blocks(page):
        if block.language == "python":
            padded = "\n" * (block.line - 1) + block.code
            exec(compile(padded, str(page), "exec"), scope)
            count += 1
    return count


def commands(page: Path) -> list[str]:
    """Return the command lines of a page's `sh` blocks without comments."""
    lines = [line for b in blocks(page) if b.language == "sh" for line in b.code.splitlines()]
    stripped = [re.sub(r"\s+#.*$", "", line).strip() for line in lines]
    return [line for line in stripped if line and not line.startswith("#")]


def shorten(command: str) -> str:
    """Return the command with a training budget of seconds instead of minutes."""
    return re.sub(r"(--minutes |MINUTES=)[\d.]+", rf"\g<1>{MINUTES}", command)
