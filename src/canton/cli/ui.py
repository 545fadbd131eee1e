"""`canton ui`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def ui(
    host: Annotated[
        str, typer.Option(help="The address to listen at; 127.0.0.1 is heard by this machine alone.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen at; 0 for any that is free.")] = 7860,
) -> int:
    """Open a page on this machine: write and score text, watch videos. Ctrl-C ends it."""
    from canton.errors import require
    from canton.training.signals import stop_signals

    require("gradio", extra="ui")
    from canton.ui.app import serve

    with stop_signals() as stop, serve(Path.cwd(), host=host, port=port) as url:
        typer.echo(f"Canton is at {url} (Ctrl-C ends it)")
        if host not in ("127.0.0.1", "localhost", "::1"):
            typer.echo("whoever reaches this address may use it: there is no password", err=True)
        stop.wait()
    return 130
