"""What a handler of the page knows of who asks, and how it tells them that something will not do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from canton.errors import UserError


def visitor(request: gr.Request) -> str:
    """Who asks: the same for as long as their page is open."""
    return str(request.session_hash)


@contextmanager
def told() -> Iterator[None]:
    """What a person can mend is shown to them in one line; anything else is a fault and goes to the log."""
    try:
        yield
    except (UserError, ValueError) as error:
        raise gr.Error(str(error), print_exception=False, title="That will not do") from error
