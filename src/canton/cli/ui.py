"""`canton ui`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def ui(
    host: Annotated[
        str, typer.Option(help="Address to listen on; 127.0.0.1 accepts this machine only.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0: any free port.")] = 7860,
) -> int:
    """Serve the web page: generate and score text, track objects in video. Ctrl-C stops it."""
    from canton.errors import require
    from canton.training.signals import stop_signals

    require("gradio", extra="ui")
    from canton.ui.app import serve

    with stop_signals() as stop, serve(Path.cwd(), host=host, port=port) as url:
        typer.echo(f"serving Canton on {url} (Ctrl-C stops it)")
        if host not in ("127.0.0.1", "localhost", "::1"):
            typer.echo("warning: the page has no password, and this address is not local", err=True)
        stop.wait()
    return 130
