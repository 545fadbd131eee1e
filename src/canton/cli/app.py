"""The command tree. Commands import what they need when they run, so that --help is fast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from canton import __version__
from canton.cli.info import info
from canton.cli.options import ConfigCommand
from canton.cli.text.compress import compress, decompress
from canton.cli.text.export import export
from canton.cli.text.generate import generate
from canton.cli.text.score import score
from canton.cli.text.train import train
from canton.cli.track.evaluate import evaluate
from canton.cli.track.export import export as track_export
from canton.cli.track.figure import figure
from canton.cli.track.labels import labels
from canton.cli.track.scenes import scenes
from canton.cli.track.train import train as track_train
from canton.cli.track.watch import WatchCommand, watch
from canton.cli.ui import ui
from canton.errors import UserError


def print_version(wanted: bool) -> None:
    """Print the version and exit, if it is wanted."""
    if wanted:
        typer.echo(f"canton {__version__}")
        raise typer.Exit


PLAIN = {
    "no_args_is_help": True,
    "rich_markup_mode": None,
    "add_completion": False,
    "pretty_exceptions_enable": False,
}

app = typer.Typer(help="Gated recurrence over any affine map.", **{**PLAIN, "add_completion": True})  # type: ignore[arg-type]
text = typer.Typer(help="Train byte models of text, generate and score text.", **PLAIN)  # type: ignore[arg-type]
track = typer.Typer(help="Detect and track small moving objects in video.", **PLAIN)  # type: ignore[arg-type]
app.add_typer(text, name="text")
app.add_typer(track, name="track")


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=print_version, help="Print the version.")
    ] = False,
) -> None:
    """Gated recurrence over any affine map."""


app.command()(info)
app.command()(ui)
text.command(cls=ConfigCommand)(train)
text.command()(generate)
text.command()(score)
text.command()(compress)
text.command()(decompress)
text.command()(export)
track.command()(scenes)
track.command("train", cls=ConfigCommand)(track_train)
track.command(cls=WatchCommand)(watch)
track.command()(evaluate)
track.command()(labels)
track.command()(figure)
track.command("export")(track_export)


def run(argv: Sequence[str]) -> int:
    """Run the command that `argv` names.

    Raises: UserError, one line, for invalid arguments; KeyboardInterrupt.
    """
    # typer's public error derives from ClickException, of click or of the copy of click in typer
    usage_error = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
    try:
        status = app(args=list(argv), standalone_mode=False, prog_name="canton")
    except typer.Abort as error:
        raise KeyboardInterrupt from error
    except SystemExit as error:
        if not error.code:  # shell completion was printed or installed
            return 0
        raise BrokenPipeError from error  # click exits when the reader, such as `head`, closes the pipe
    except Exception as error:
        if not isinstance(error, usage_error):
            raise
        if type(error).__name__ == "NoArgsIsHelpError":  # in a private module of both
            typer.echo(error.format_message(), err=True)  # type: ignore[attr-defined]
            return 2
        raise UserError(error.format_message()) from error  # type: ignore[attr-defined]
    return status if isinstance(status, int) else 0
