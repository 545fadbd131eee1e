"""The page, two tabs and their look, and the server that shows it."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gradio as gr

from canton.errors import UserError
from canton.io.atomic import os_error_reason
from canton.text import checkpoint as text
from canton.track import checkpoint as motion
from canton.ui.jobs import Jobs
from canton.ui.model_store import Shelf
from canton.ui.surprisal_html import colours
from canton.ui.text_tab import text_tab
from canton.ui.track_tab import track_tab
from canton.ui.uploads import MODEL_BYTES, VIDEO_BYTES
from canton.ui.visitors import visitor

LETTERS = (
    "ui-sans-serif",
    "system-ui",
    "-apple-system",
    "Segoe UI",
    "Cantarell",
    "DejaVu Sans",
    "sans-serif",
)
CODE = ("ui-monospace", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")
"""Fonts a computer has: none is fetched."""
LOOK: gr.themes.Base = gr.themes.Base(
    primary_hue="teal", neutral_hue="zinc", radius_size="md", font=LETTERS, font_mono=CODE
).set(
    body_text_color_subdued="*neutral_600",
    body_text_color_subdued_dark="*neutral_400",
    block_label_text_color="*neutral_700",
    block_title_text_color="*neutral_700",
    block_title_text_weight="600",
    block_title_text_size="*text_sm",
    block_info_text_color="*neutral_600",
    block_border_width="0px",
    block_background_fill="transparent",
    block_background_fill_dark="transparent",
    input_background_fill="white",
    input_border_width="1px",
    input_border_color="*neutral_300",
    input_placeholder_color="*neutral_500",
    input_placeholder_color_dark="*neutral_400",
    slider_color="*primary_600",
    link_text_color="*primary_700",
    button_large_text_weight="600",
    button_large_text_size="*text_md",
    button_large_padding="9px 18px",
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover_dark="*primary_600",
    button_primary_text_color="white",
    button_secondary_background_fill="*neutral_100",
    button_secondary_background_fill_hover="*neutral_200",
    button_secondary_border_color="*neutral_300",
    button_border_width="1px",
    button_primary_border_color="transparent",
)
"""Words and buttons dark enough to be read on a telephone in the sun."""


def page(folder: Path, *, within: Path, kept: Path) -> gr.Blocks:
    """The page, not yet served.

    folder: of the user; the models in it are on offer. within: the folder uploads arrive in. kept: a folder
    for what the page itself writes.
    """
    texts = Shelf(text.FORMAT, text.load_model, package="canton.text", folder=folder, kept=kept)
    tracks = Shelf(motion.FORMAT, motion.load_model, package="canton.track", folder=folder, kept=kept)
    jobs = Jobs()
    blocks: gr.Blocks = gr.Blocks(title="Canton", analytics_enabled=False, delete_cache=(3600, 6 * 3600))
    with blocks:
        gr.HTML(
            "<h1>Canton</h1>"
            "<p>Gated recurrence at work: it writes bytes, and follows small things that move.</p>",
            elem_id="head",
            padding=False,
        )
        with gr.Tab("Text", elem_id="text-tab"):
            text_tab(texts, jobs, within=within)
        with gr.Tab("Track", elem_id="track-tab"):
            track_tab(tracks, jobs, within=within, kept=kept)

        def leave(request: gr.Request) -> None:
            for what in ("write", "score", "watch"):
                jobs.stop(f"{what} {visitor(request)}")
            for shelf in (texts, tracks):
                shelf.forget(visitor(request))

        blocks.unload(leave)
    return blocks


@contextmanager
def serve(folder: Path, *, host: str = "127.0.0.1", port: int = 7860) -> Iterator[str]:
    """Serve the page while the block lasts, and tell its address. What visitors bring is deleted with it.

    folder: of the user; the models in it are on offer. host: the address to listen at; 127.0.0.1 is heard by
    this machine alone. port: 0 for any that is free.

    Raises: UserError if it cannot listen there.
    """
    port = _free(host, port)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    with tempfile.TemporaryDirectory(prefix="canton-ui-") as place:
        within, kept = Path(place) / "uploads", Path(place) / "kept"
        within.mkdir()
        kept.mkdir()
        os.environ["GRADIO_TEMP_DIR"] = str(within)
        blocks = page(folder, within=within, kept=kept)
        _, url, _ = blocks.launch(
            server_name=host,
            server_port=port,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            max_file_size=max(VIDEO_BYTES, MODEL_BYTES),
            footer_links=[],
            ssr_mode=False,
            mcp_server=False,
            enable_monitoring=False,
            theme=LOOK,
            css=colours(),
            css_paths=Path(__file__).with_name("page.css"),
            head=f"<script>\n{Path(__file__).with_name('page.js').read_text('utf-8')}</script>",
        )
        try:
            yield str(url)
        finally:
            blocks.close(verbose=False)


def _free(host: str, port: int) -> int:
    """The port, or for 0 one that is free.

    Raises: UserError if nothing can listen there.
    """
    if not 0 <= port <= 65535:
        raise UserError(f"port is {port}: it lies between 0 (any that is free) and 65535")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
            return int(trial.getsockname()[1])
    except OSError as error:
        raise UserError(
            f"cannot listen at {host}, port {port}: {os_error_reason(error)}; see --port"
        ) from error
