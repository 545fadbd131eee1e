"""The seed that a visitor gives, or leaves to chance."""

from __future__ import annotations

import os

import gradio as gr

from canton.errors import UserError


def seed_box(label: str, *, elem_id: str) -> gr.Textbox:
    """A field for `seed_of`. Not gradio's for numbers, which shows 0 where there is none."""
    return gr.Textbox(
        label=label, placeholder="by chance", max_lines=1, max_length=9, elem_id=elem_id, min_width=110
    )


def seed_of(text: str | None) -> int:
    """The number in `text`; by chance, and short enough to be noted down, if there is none.

    Raises: UserError if it is no whole number.
    """
    text = (text or "").strip()
    if not text:
        return int.from_bytes(os.urandom(2), "little")
    if not text.isascii() or not text.isdigit():
        raise UserError(f"the seed is {text!r}: it is a whole number of at least 0, or left empty")
    return int(text)
