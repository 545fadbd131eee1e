"""Parts that both tabs use: start and stop buttons, the model list, the seed field."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from canton.errors import UserError
from canton.ui.model_store import ModelStore
from canton.ui.session import Jobs, show_errors, visitor

Updates = dict[Component, Any]
"""New values by component."""


class JobButtons:
    """A button that starts a visitor's job, and one that stops it; each is enabled only while it has an
    effect.

    Args:
        name: of the job; prefix of its key and of the element ids.
        label: of the start button.
        jobs: the running jobs.
    """

    def __init__(self, name: str, label: str, jobs: Jobs) -> None:
        self._name, self._jobs = name, jobs
        with gr.Row():
            self._start = gr.Button(label, variant="primary", elem_id=name, min_width=100, scale=2)
            self._stop = gr.Button("Stop", elem_id=f"{name}-stop", min_width=80, scale=1, interactive=False)

    def on_start(
        self,
        job: Callable[..., Iterator[Updates]],
        inputs: list[Component],
        outputs: list[Component],
        *,
        limit: int,
        triggers: tuple[Any, ...] = (),
    ) -> None:
        """Run `job` when the start button is pressed.

        Args:
            job: a generator of updates.
            limit: jobs that run at once; further visitors wait.
            triggers: other events that start it.
        """

        @wraps(job)
        def run(*values: Any) -> Iterator[Updates]:
            yield self._enable(running=True)
            try:
                yield from job(*values)
            except Exception:
                yield self._enable(running=False)
                raise
            yield self._enable(running=False)

        gr.on(
            [self._start.click, *triggers],
            run,
            inputs,
            [*outputs, self._start, self._stop],
            concurrency_limit=limit,
            show_progress="hidden",
        )
        self._stop.click(self._on_stop, queue=False, show_progress="hidden")

    def _on_stop(self, request: gr.Request) -> None:
        self._jobs.stop(f"{self._name} {visitor(request)}")

    def _enable(self, *, running: bool) -> Updates:
        return {self._start: gr.update(interactive=not running), self._stop: gr.update(interactive=running)}


def model_picker(store: ModelStore[Any], *, uploads: Path, train: str, prefix: str) -> gr.Dropdown:
    """Add a list of models with an upload button, and return the list; its value is a name in the store.

    Args:
        uploads: folder that uploaded files arrive in.
        train: command that trains a model, shown if there is none.
        prefix: of the element ids.
    """
    with gr.Row(elem_classes="picker"):
        choice = gr.Dropdown([], label="Model", elem_id=f"{prefix}-model", scale=3, min_width=160)
        button = gr.UploadButton(
            "Upload", file_types=[".safetensors"], elem_id=f"{prefix}-upload", scale=1, min_width=130
        )
    hint = gr.Markdown(
        f"No model found. Train one with `{train}` and start this page in its folder, or upload a file.",
        visible=False,
        elem_id=f"{prefix}-hint",
    )

    def refresh(chosen: str | None, request: gr.Request) -> tuple[Any, Any]:
        names = store.names(visitor(request))
        value = chosen if chosen in names else (names[0] if names else None)
        return gr.update(choices=names, value=value), gr.update(visible=not names)

    def upload(file: str, request: gr.Request) -> tuple[Any, Any]:
        with show_errors():
            name = store.add(file, visitor(request), uploads=uploads)
        return gr.update(choices=store.names(visitor(request)), value=name), gr.update(visible=False)

    choice.focus(refresh, choice, [choice, hint], show_progress="hidden", queue=False)
    button.upload(upload, button, [choice, hint])
    gr.on(None, refresh, choice, [choice, hint], show_progress="hidden")
    return choice


def seed_field(label: str, *, elem_id: str) -> gr.Textbox:
    """Add a field for `parse_seed`. Not gr.Number, which shows 0 when it is empty."""
    return gr.Textbox(
        label=label, placeholder="random", max_lines=1, max_length=9, elem_id=elem_id, min_width=110
    )


def parse_seed(text: str | None) -> int:
    """Return the number in `text`, or a random one below 65,536 if it is empty.

    Raises: UserError if it is not an integer >= 0.
    """
    text = (text or "").strip()
    if not text:
        return int.from_bytes(os.urandom(2), "little")
    if not text.isascii() or not text.isdigit():
        raise UserError(f"seed must be an integer >= 0 or empty, got {text!r}")
    return int(text)
