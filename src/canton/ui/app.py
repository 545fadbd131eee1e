"""The page: two tabs, theme and server."""

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
from canton.track import checkpoint as track
from canton.ui.model_store import ModelStore
from canton.ui.session import Jobs, visitor
from canton.ui.surprisal_html import stylesheet
from canton.ui.text_tab import text_tab
from canton.ui.track_tab import track_tab
from canton.ui.uploads import MAX_MODEL_BYTES, MAX_VIDEO_BYTES

FONTS = (
    "ui-sans-serif",
    "system-ui",
    "-apple-system",
    "Segoe UI",
    "Cantarell",
    "DejaVu Sans",
    "sans-serif",
)
MONO_FONTS = ("ui-monospace", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")
"""Installed fonts; none is downloaded."""
THEME: gr.themes.Base = gr.themes.Base(
    primary_hue="teal", neutral_hue="zinc", radius_size="md", font=FONTS, font_mono=MONO_FONTS
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
"""Contrast is high enough for a phone in sunlight."""


def page(folder: Path, *, uploads: Path, storage: Path) -> gr.Blocks:
    """Return the page.

    Args:
        folder: the user's folder, whose models are listed.
        uploads: folder that uploaded files arrive in.
        storage: folder for the page's own files.
    """
    texts = ModelStore(text.FORMAT, text.load_model, package="canton.text", folder=folder, storage=storage)
    tracks = ModelStore(
        track.FORMAT, track.load_model, package="canton.track", folder=folder, storage=storage
    )
    jobs = Jobs()
    blocks: gr.Blocks = gr.Blocks(title="Canton", analytics_enabled=False, delete_cache=(3600, 6 * 3600))
    with blocks:
        gr.HTML(
            "<h1>Canton</h1><p>Generate and score text, and track small moving objects in video.</p>",
            elem_id="head",
            padding=False,
        )
        with gr.Tab("Text", elem_id="text-tab"):
            text_tab(texts, jobs, uploads=uploads)
        with gr.Tab("Track", elem_id="track-tab"):
            track_tab(tracks, jobs, uploads=uploads, storage=storage)

        def on_leave(request: gr.Request) -> None:
            for what in ("write", "score", "watch"):
                jobs.stop(f"{what} {visitor(request)}")
            for store in (texts, tracks):
                store.forget(visitor(request))

        blocks.unload(on_leave)
    return blocks


@contextmanager
def serve(folder: Path, *, host: str = "127.0.0.1", port: int = 7860) -> Iterator[str]:
    """Serve the page while the block runs, and yield its address. Uploads are deleted at the end.

    Args:
        folder: the user's folder, whose models are listed.
        host: address to listen on; 127.0.0.1 accepts this machine only.
        port: 0 for any free port.

    Raises: UserError if it cannot listen there.
    """
    port = _free_port(host, port)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    with tempfile.TemporaryDirectory(prefix="canton-ui-") as place:
        uploads, storage = Path(place) / "uploads", Path(place) / "models"
        uploads.mkdir()
        storage.mkdir()
        os.environ["GRADIO_TEMP_DIR"] = str(uploads)
        blocks = page(folder, uploads=uploads, storage=storage)
        _, url, _ = blocks.launch(
            server_name=host,
            server_port=port,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            max_file_size=max(MAX_VIDEO_BYTES, MAX_MODEL_BYTES),
            footer_links=[],
            ssr_mode=False,
            mcp_server=False,
            enable_monitoring=False,
            theme=THEME,
            css=stylesheet(),
            css_paths=Path(__file__).with_name("page.css"),
            head=f"<script>\n{Path(__file__).with_name('page.js').read_text('utf-8')}</script>",
        )
        try:
            yield str(url)
        finally:
            blocks.close(verbose=False)


def _free_port(host: str, port: int) -> int:
    """Return the port, or a free one for 0.

    Raises: UserError if nothing can listen there.
    """
    if not 0 <= port <= 65535:
        raise UserError(f"port must be in [0, 65535], got {port}")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
            return int(trial.getsockname()[1])
    except OSError as error:
        raise UserError(
            f"cannot listen on {host}, port {port}: {os_error_reason(error)}; choose another --port"
        ) from error
