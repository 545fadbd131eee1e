"""The tab *Text*: bytes that stream in the colours of their surprise, and the score of a text one brings."""

from __future__ import annotations

import html
import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import numpy as np

from canton.text.generate import check_sampling, generate
from canton.text.html_report import ALTERNATIVES, PageWriter
from canton.text.likelihood import Scored
from canton.text.model import ByteModel
from canton.text.score import score
from canton.ui.components import Changed, Work
from canton.ui.jobs import Jobs
from canton.ui.model_store import Shelf
from canton.ui.picker import picker
from canton.ui.seeds import seed_box, seed_of
from canton.ui.surprisal_html import Meter, Paper, legend
from canton.ui.uploads import PROMPT_BYTES, SCORED_BYTES, WRITTEN_BYTES, to_bytes
from canton.ui.visitors import told, visitor

SHOW_SECONDS = 0.05
"""Between two looks at the text while it is written."""
LONG = 500
"""Bytes on the paper from which a browser takes longer to draw them: they are shown less often."""
AT_ONCE = 8
"""Visitors served side by side; who comes next waits."""
EMPTY = '<span class="empty">What it writes appears here, every byte as warm as it was surprising.</span>'
UNSCORED = '<span class="empty">Your text appears here, in the same colours.</span>'


class Stopped(Exception):
    """The visitor pressed stop."""


def text_tab(shelf: Shelf[ByteModel], jobs: Jobs, *, within: Path) -> None:
    """Build the tab where it stands on the page. within: the folder uploads arrive in."""
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            model = picker(
                shelf,
                within=within,
                train="canton text train --out model.safetensors --minutes 2",
                prefix="text",
            )
            prompt = gr.Textbox(
                label="Prompt", lines=3, max_lines=8, placeholder="Begin the text…", elem_id="prompt",
                max_length=PROMPT_BYTES,
            )  # fmt: skip
            with gr.Row(elem_classes="two"):
                temperature = _slider(0, 2, 0.8, 0.05, "Temperature", "temperature")
                top_p = _slider(0.05, 1, 0.95, 0.01, "Top-p", "top-p")
            with gr.Row(elem_classes="two"):
                length = _slider(16, WRITTEN_BYTES, 600, 1, "Bytes", "length")
                seed = seed_box("Seed", elem_id="seed")
            write = Work("write", "Write", jobs)
        with gr.Column(scale=3, min_width=300):
            gr.HTML(legend(), padding=False, elem_id="legend")
            written = gr.HTML(EMPTY, elem_id="written", elem_classes="paper", padding=False)
            tally = gr.Markdown(" ", elem_id="tally", elem_classes="fine")
    gr.HTML(
        "<h3>Score my text</h3><p>What each byte costs in bits; point at one for what seemed likelier.</p>",
        elem_classes="part",
        padding=False,
    )
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            mine = gr.Textbox(
                label="Text", lines=9, max_lines=14, placeholder="Paste a text…", elem_id="mine",
                max_length=SCORED_BYTES,
            )  # fmt: skip
            rate = Work("score", "Score", jobs)
        with gr.Column(scale=3, min_width=300):
            scored = gr.HTML(UNSCORED, elem_id="scored", padding=False)

    def begin(
        name: str | None, text: str, heat: float, nucleus: float, count: float, number: str,
        request: gr.Request,
    ) -> Iterator[Changed]:  # fmt: skip
        with told():
            network = shelf.open(name, visitor(request)).model
            start = to_bytes(text or "", PROMPT_BYTES, "the prompt")
            chosen = seed_of(number)
            count = min(int(count), WRITTEN_BYTES)
            check_sampling(length=count, temperature=heat, top_k=0, top_p=nucleus)
            halted = jobs.start(f"write {visitor(request)}")
            for paper, figures in _write(network, halted, start, count, heat, nucleus, chosen):
                yield {written: paper, tally: figures}

    def judge(name: str | None, text: str, request: gr.Request) -> Iterator[Changed]:
        with told():
            network = shelf.open(name, visitor(request)).model
            given = to_bytes(text or "", SCORED_BYTES, "the text")
            yield {scored: '<span class="empty">Reading…</span>'}
            yield {scored: _score(network, given, jobs.start(f"score {visitor(request)}"))}

    write.does(
        begin,
        [model, prompt, temperature, top_p, length, seed],
        [written, tally],
        at_once=AT_ONCE,
        also=(prompt.submit,),
    )
    rate.does(judge, [model, mine], [scored], at_once=AT_ONCE)


def _slider(low: float, high: float, value: float, step: float, label: str, elem_id: str) -> gr.Slider:
    return gr.Slider(
        low, high, value, step=step, label=label, elem_id=elem_id, min_width=140, buttons=[]
    )  # fmt: skip


def _write(
    model: ByteModel,
    stop: threading.Event,
    prompt: bytes,
    length: int,
    temperature: float,
    top_p: float,
    seed: int,
) -> Iterator[tuple[str, str]]:
    """The paper and the figures, again and again while they grow."""
    paper, meter = Paper(), Meter(model)
    paper.add(prompt, meter.bits(prompt), given=True)
    yield paper.html, "reading…"
    count, bits, writing, shown_at = 0, 0.0, 0.0, time.monotonic()
    pieces = generate(model, length, prompt=prompt, temperature=temperature, top_p=top_p, seed=seed)
    begun = time.perf_counter()
    for piece in pieces:
        writing += time.perf_counter() - begun
        costs = meter.bits(piece)
        paper.add(piece, costs)
        count, bits = count + len(piece), bits + sum(costs)
        if stop.is_set():
            break
        if time.monotonic() - shown_at >= SHOW_SECONDS * (1 + count / LONG):
            shown_at = time.monotonic()
            yield paper.html, f"{count:,} bytes…"
        begun = time.perf_counter()
    ended = " · stopped" if stop.is_set() else ""
    speed = f" · {count / writing:,.0f} bytes/s" if writing > 0 else ""
    mean = f"{bits / count:.2f} bits per byte" if count else "nothing to write"
    yield paper.html, f"{count:,} bytes · {mean}{speed} · seed {seed}{ended}"


def _score(model: ByteModel, text: bytes, stop: threading.Event) -> str:
    """The page that `canton text score --html` writes, in a frame of its own that can reach nothing else."""

    def look(scored: Scored, adapted: Scored | None) -> None:
        if stop.is_set():
            raise Stopped

    file = io.BytesIO()
    page = PageWriter(file, name="Your text")
    try:
        totals = score(model, np.frombuffer(text, np.uint8), alternatives=ALTERNATIVES, sinks=[page, look])
    except Stopped:
        return '<span class="empty">Stopped.</span>'
    page.end(totals)
    inside = html.escape(file.getvalue().decode("utf-8"), quote=True)
    return f'<iframe title="Your text, scored" sandbox="allow-scripts" srcdoc="{inside}"></iframe>'
