"""Choosing a model: a list of those on the shelf, and a place to drop another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from canton.ui.model_store import Shelf
from canton.ui.visitors import told, visitor


def picker(shelf: Shelf[Any], *, within: Path, train: str, prefix: str) -> gr.Dropdown:
    """Build it where it stands on the page; its value is a name on the shelf.

    within: the folder uploads arrive in. train: the command that makes a model, told where there is none.
    prefix: of the element ids.
    """
    with gr.Row(elem_classes="picker"):
        choice = gr.Dropdown([], label="Model", elem_id=f"{prefix}-model", scale=3, min_width=160)
        drop = gr.UploadButton(
            "Bring yours", file_types=[".safetensors"], elem_id=f"{prefix}-bring", scale=1, min_width=130
        )
    hint = gr.Markdown(
        f"No model is here yet. `{train}` makes one; start this page in its folder, or bring the file.",
        visible=False,
        elem_id=f"{prefix}-hint",
    )

    def look(chosen: str | None, request: gr.Request) -> tuple[Any, Any]:
        names = shelf.names(visitor(request))
        value = chosen if chosen in names else (names[0] if names else None)
        return gr.update(choices=names, value=value), gr.update(visible=not names)

    def bring(upload: str, request: gr.Request) -> tuple[Any, Any]:
        with told():
            name = shelf.bring(upload, visitor(request), within=within)
        return gr.update(choices=shelf.names(visitor(request)), value=name), gr.update(visible=False)

    choice.focus(look, choice, [choice, hint], show_progress="hidden", queue=False)
    drop.upload(bring, drop, [choice, hint])
    gr.on(None, look, choice, [choice, hint], show_progress="hidden")
    return choice
