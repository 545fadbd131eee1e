"""Every Python block of the pages runs, and every fenced block has a language that something checks."""

from __future__ import annotations

from pathlib import Path

import pytest

from blocks import blocks, run_python

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "CONTRIBUTING.md"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # what a block writes, it writes here
    run_python(page)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.stem)
def test_every_block_says_what_it_is(page: Path) -> None:
    languages = {block.language for block in blocks(page)}
    assert languages <= {"python", "sh", "text"}


def test_a_wrong_block_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Said.\n\n```python\nx = 1\n```\n\nThen:\n\n```python\nassert x == 2\n```\n", "utf-8")
    with pytest.raises(AssertionError) as caught:
        run_python(page)
    assert caught.traceback[-1].lineno == 9  # counted from 0: the page's line 10
