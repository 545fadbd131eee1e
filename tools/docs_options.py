"""MkDocs hook: replace ``<!-- options: text train -->`` by a table of the command's options."""

from __future__ import annotations

import re
from typing import Any

import typer

from canton.cli.app import app

PATTERN = re.compile(r"^<!-- options: ([\w ]+) -->$", re.M)


def command(words: list[str]) -> Any:
    """Return the click command that `words` name, such as ["text", "train"]."""
    found: Any = typer.main.get_command(app)
    for word in words:
        found = found.commands[word]
    found.make_context(words[-1], [], resilient_parsing=True)  # builds the options that settings give
    return found


def table(words: list[str]) -> str:
    """Return a Markdown table of the command's arguments and options."""
    rows = ["| argument or option | meaning |", "|---|---|"]
    for parameter in command(words).params:
        if parameter.name == "help" or getattr(parameter, "hidden", False):
            continue
        names = [*parameter.opts, *parameter.secondary_opts]
        if parameter.param_type_name == "argument":
            names = [(parameter.metavar or parameter.name).upper()]
        meaning = (parameter.help or "").replace("|", "\\|").replace("\n", " ")
        rows.append(f"| {', '.join(f'`{name}`' for name in names)} | {meaning} |")
    return "\n".join(rows)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in the tables of a page; MkDocs calls this for every page."""
    return PATTERN.sub(lambda found: table(found[1].split()), markdown)
