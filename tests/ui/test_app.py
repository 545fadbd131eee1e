"""The page is served on loopback and has both tabs."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("gradio", reason="gradio is not installed (canton-torch[ui])")


def test_the_page_is_served_on_loopback(tmp_path: Path) -> None:
    from canton.ui.app import serve

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with serve(tmp_path, port=port) as address:
        assert address.startswith(f"http://127.0.0.1:{port}")
        with urllib.request.urlopen(f"{address}config", timeout=30) as answer:
            config = json.load(answer)
    labels = {str(part["props"].get("label")) for part in config["components"]}
    assert {"Text", "Track", "Prompt", "Temperature", "Top-p", "Threshold"} <= labels
    assert not config["analytics_enabled"]
    with pytest.raises(urllib.error.URLError, match="refused"):
        urllib.request.urlopen(address, timeout=2)
