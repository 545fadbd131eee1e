"""A button that begins a visitor's work, and beside it one that ends it, each alive while it has a use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import gradio as gr
from gradio.components import Component

from canton.ui.jobs import Jobs
from canton.ui.visitors import visitor

Changed = dict[Component, Any]
"""What changes on the page."""


class Work:
    """The two buttons, built where they stand on the page.

    what: names the work among a visitor's others, and begins the elements' ids. label: of the first button.
    """

    def __init__(self, what: str, label: str, jobs: Jobs) -> None:
        self._what, self._jobs = what, jobs
        with gr.Row():
            self._go = gr.Button(label, variant="primary", elem_id=what, min_width=100, scale=2)
            self._stop = gr.Button("Stop", elem_id=f"{what}-stop", min_width=80, scale=1, interactive=False)

    def does(
        self,
        begin: Callable[..., Iterator[Changed]],
        inputs: list[Component],
        outputs: list[Component],
        *,
        at_once: int,
        also: tuple[Any, ...] = (),
    ) -> None:
        """Let `begin` do it and tell how far it is. at_once: visitors served side by side; who comes next
        waits. also: events that begin it too.
        """

        @wraps(begin)
        def work(*given: Any) -> Iterator[Changed]:
            yield self._alive(working=True)
            try:
                yield from begin(*given)
            except Exception:
                yield self._alive(working=False)
                raise
            yield self._alive(working=False)

        gr.on(
            [self._go.click, *also],
            work,
            inputs,
            [*outputs, self._go, self._stop],
            concurrency_limit=at_once,
            show_progress="hidden",
        )
        self._stop.click(self._end, queue=False, show_progress="hidden")

    def _end(self, request: gr.Request) -> None:
        self._jobs.stop(f"{self._what} {visitor(request)}")

    def _alive(self, *, working: bool) -> Changed:
        return {self._go: gr.update(interactive=not working), self._stop: gr.update(interactive=working)}
