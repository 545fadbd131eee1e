"""The tab "Text": generate text in the colours of its surprisal, and score a text."""

from __future__ import annotations

import html
import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import numpy as np

from canton.text.config import Sampling
from canton.text.generate import generate
from canton.text.html_report import ALTERNATIVES, PageWriter
from canton.text.likelihood import Scored
from canton.text.model import ByteModel
from canton.text.score import score
from canton.ui.components import JobButtons, Updates, model_picker, parse_seed, seed_field
from canton.ui.model_store import ModelStore
from canton.ui.session import Jobs, show_errors, visitor
from canton.ui.surprisal_html import SurprisalHTML, SurprisalMeter, legend
from canton.ui.uploads import MAX_GENERATED_BYTES, MAX_PROMPT_BYTES, MAX_SCORED_BYTES, encode_text

SHOW_SECONDS = 0.05
"""Between two updates of the text."""
SLOWER_BYTES = 500
"""With every so many bytes the browser needs longer to draw, and updates become rarer."""
MAX_JOBS = 8
"""Jobs that run at once; further visitors wait."""
NOT_GENERATED = '<span class="empty">The generated text appears here, coloured by surprisal.</span>'
NOT_SCORED = '<span class="empty">The scored text appears here, in the same colours.</span>'


class Stopped(Exception):
    """The visitor pressed Stop."""


def text_tab(store: ModelStore[ByteModel], jobs: Jobs, *, uploads: Path) -> None:
    """Build the tab. uploads: folder that uploaded files arrive in."""
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            model = model_picker(
                store,
                uploads=uploads,
                train="canton text train --out model.safetensors --minutes 2",
                prefix="text",
            )
            prompt = gr.Textbox(
                label="Prompt", lines=3, max_lines=8, placeholder="Start of the text", elem_id="prompt",
                max_length=MAX_PROMPT_BYTES,
            )  # fmt: skip
            with gr.Row(elem_classes="two"):
                temperature = _slider(0, 2, 0.8, 0.05, "Temperature", "temperature")
                top_p = _slider(0.05, 1, 0.95, 0.01, "Top-p", "top-p")
            with gr.Row(elem_classes="two"):
                length = _slider(16, MAX_GENERATED_BYTES, 600, 1, "Bytes", "length")
                seed = seed_field("Seed", elem_id="seed")
            write = JobButtons("write", "Generate", jobs)
        with gr.Column(scale=3, min_width=300):
            gr.HTML(legend(), padding=False, elem_id="legend")
            generated = gr.HTML(NOT_GENERATED, elem_id="generated", elem_classes="surprisal", padding=False)
            stats = gr.Markdown(" ", elem_id="write-stats", elem_classes="fine")
    gr.HTML(
        "<h3>Score a text</h3><p>The bits of each byte; hover over one for the most likely alternatives.</p>",
        elem_classes="part",
        padding=False,
    )
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            score_text = gr.Textbox(
                label="Text", lines=9, max_lines=14, placeholder="Paste a text", elem_id="score-text",
                max_length=MAX_SCORED_BYTES,
            )  # fmt: skip
            score_button = JobButtons("score", "Score", jobs)
        with gr.Column(scale=3, min_width=300):
            scored = gr.HTML(NOT_SCORED, elem_id="scored", padding=False)

    def write_job(
        name: str | None, text: str, t: float, p: float, count: float, seed_text: str,
        request: gr.Request,
    ) -> Iterator[Updates]:  # fmt: skip
        with show_errors():
            network = store.open(name, visitor(request)).model
            start = encode_text(text or "", MAX_PROMPT_BYTES, "the prompt")
            chosen = parse_seed(seed_text)
            count = min(int(count), MAX_GENERATED_BYTES)
            sampling = Sampling(temperature=t, top_p=p)
            stop = jobs.start(f"write {visitor(request)}")
            for text_html, stats_line in _write(network, stop, start, count, sampling, chosen):
                yield {generated: text_html, stats: stats_line}

    def score_text_job(name: str | None, text: str, request: gr.Request) -> Iterator[Updates]:
        with show_errors():
            network = store.open(name, visitor(request)).model
            given = encode_text(text or "", MAX_SCORED_BYTES, "the text")
            yield {scored: '<span class="empty">Scoring…</span>'}
            yield {scored: _score(network, given, jobs.start(f"score {visitor(request)}"))}

    write.on_start(
        write_job,
        [model, prompt, temperature, top_p, length, seed],
        [generated, stats],
        limit=MAX_JOBS,
        triggers=(prompt.submit,),
    )
    score_button.on_start(score_text_job, [model, score_text], [scored], limit=MAX_JOBS)


def _slider(low: float, high: float, value: float, step: float, label: str, elem_id: str) -> gr.Slider:
    return gr.Slider(
        low, high, value, step=step, label=label, elem_id=elem_id, min_width=140, buttons=[]
    )  # fmt: skip


def _write(
    model: ByteModel,
    stop: threading.Event,
    prompt: bytes,
    length: int,
    sampling: Sampling,
    seed: int,
) -> Iterator[tuple[str, str]]:
    """Yield the generated text as HTML, and a line of statistics, while they grow."""
    document, meter = SurprisalHTML(), SurprisalMeter(model)
    document.add(prompt, meter.bits(prompt), is_prompt=True)
    yield document.html, "reading the prompt…"
    count, bits, elapsed, shown_at = 0, 0.0, 0.0, time.monotonic()
    pieces = generate(model, length, prompt=prompt, sampling=sampling, seed=seed)
    started = time.perf_counter()
    for piece in pieces:
        elapsed += time.perf_counter() - started
        bits_of = meter.bits(piece)
        document.add(piece, bits_of)
        count, bits = count + len(piece), bits + sum(bits_of)
        if stop.is_set():
            break
        if time.monotonic() - shown_at >= SHOW_SECONDS * (1 + count / SLOWER_BYTES):
            shown_at = time.monotonic()
            yield document.html, f"{count:,} bytes…"
        started = time.perf_counter()
    ended = " · stopped" if stop.is_set() else ""
    speed = f" · {count / elapsed:,.0f} bytes/s" if elapsed > 0 else ""
    mean = f"{bits / count:.2f} bits per byte" if count else "nothing generated"
    yield document.html, f"{count:,} bytes · {mean}{speed} · seed {seed}{ended}"


def _score(model: ByteModel, text: bytes, stop: threading.Event) -> str:
    """Return the page of `canton text score --html`, in a sandboxed frame."""

    def check_stop(scored: Scored, adapted: Scored | None) -> None:
        if stop.is_set():
            raise Stopped

    file = io.BytesIO()
    page = PageWriter(file, name="Your text")
    try:
        totals = score(
            model, np.frombuffer(text, np.uint8), alternatives=ALTERNATIVES, sinks=[page, check_stop]
        )
    except Stopped:
        return '<span class="empty">Stopped.</span>'
    page.end(totals)
    inside = html.escape(file.getvalue().decode("utf-8"), quote=True)
    return f'<iframe title="Scored text" sandbox="allow-scripts" srcdoc="{inside}"></iframe>'
