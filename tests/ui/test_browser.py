"""The page in a real browser: somebody types, clicks, waits, uploads and downloads.

Pictures of what was shown stay in the folder that CANTON_SCREENSHOTS names, if it names one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gradio", reason="gradio is not here (canton-torch[ui])")
pytest.importorskip("av", reason="av is not here (canton-torch[track])")
pytest.importorskip("trackers", reason="trackers is not here (canton-torch[track])")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not here (canton-torch[dev])")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed here"),
]

PATIENCE = 60_000
"""Milliseconds; a busy machine is slow."""
SIZES = {"wide": (1280, 900), "narrow": (390, 844)}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    from canton.text import Architecture, train
    from canton.ui.page import serve

    folder = tmp_path_factory.mktemp("models")
    small = Architecture(hidden=24, embedding=12, contexts=(), counts=(), words=())
    train(folder / "small.safetensors", steps=20, architecture=small, looks=0)
    with serve(folder, port=0) as url:
        yield url


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of a bright square that flies over a dull sky."""
    from canton.motion.recorder import Recorder

    path = tmp_path_factory.mktemp("film") / "flight.mp4"
    sky = np.random.default_rng(0).integers(60, 80, (256, 320, 3)).astype(np.uint8)
    with Recorder(path, 320, 256, 10) as recorder:
        for t in range(20):
            frame = sky.copy()
            frame[100 + 2 * t : 108 + 2 * t, 40 + 9 * t : 48 + 9 * t] = 240
            recorder.write(frame)
    return path


@pytest.fixture(params=SIZES)
def page(request: pytest.FixtureRequest, address: str) -> Iterator[playwright.Page]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        width, height = SIZES[request.param]
        opened = browser.new_page(viewport={"width": width, "height": height})
        opened.set_default_timeout(PATIENCE)
        faults: list[str] = []
        opened.on("pageerror", lambda fault: faults.append(str(fault)))
        opened.goto(address)
        opened.locator("#write").wait_for()
        yield opened
        assert not faults
        browser.close()


def keep(page: playwright.Page, name: str) -> None:
    """Take a picture, if somebody wants one, and see that nothing sticks out to the right."""
    width = page.viewport_size["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if folder := os.environ.get("CANTON_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}_{width}.png", full_page=True)


def test_it_writes_in_the_colours_of_surprise_and_stops(page: playwright.Page) -> None:
    page.locator("#prompt textarea").fill("What is ")
    page.locator("#length input[type=number]").fill("300")
    page.locator("#write").click()
    tally = page.locator("#tally")
    playwright.expect(tally).to_contain_text("bits per byte", timeout=PATIENCE)
    assert re.match(r"300 bytes · \d+\.\d\d bits per byte · .* bytes/s · seed \d+", tally.inner_text())
    written = page.locator("#written")
    assert written.inner_text().strip().startswith("What is ")
    shades = written.locator("i").evaluate_all("all => all.map(s => getComputedStyle(s).backgroundColor)")
    assert len(set(shades)) > 3
    keep(page, "text")
    page.locator("#length input[type=number]").fill("8000")
    page.locator("#write").click()
    playwright.expect(tally).to_contain_text("bytes…", timeout=PATIENCE)
    page.locator("#write-stop").click()
    playwright.expect(tally).to_contain_text("stopped", timeout=PATIENCE)
    assert int(re.match(r"[\d,]+", tally.inner_text())[0].replace(",", "")) < 8000  # type: ignore[index]


def test_it_scores_and_tells_what_seemed_likelier(page: playwright.Page) -> None:
    page.locator("#mine textarea").fill("The list is sorted. Qzx!")
    page.locator("#score").click()
    inside = page.frame_locator("#scored iframe")
    inside.locator("body").wait_for()
    playwright.expect(inside.locator("body")).to_contain_text("bits per byte", timeout=PATIENCE)
    inside.locator("#text span").filter(has_text="Q").first.hover()
    tip = inside.locator("#tip")
    playwright.expect(tip).to_be_visible()
    assert len(re.findall(r"\d+(?:\.\d+)? ?%", tip.inner_text())) == 5, tip.inner_text()
    keep(page, "score")


def test_it_watches_an_uploaded_video(page: playwright.Page, film: Path, tmp_path: Path) -> None:
    page.get_by_role("tab", name="Track").click()
    page.locator("#film input[type=file]").set_input_files(film)
    playwright.expect(page.locator("#film")).to_contain_text("flight", timeout=PATIENCE)
    page.locator("#watch").click()
    tally = page.locator("#track-tally")
    playwright.expect(page.locator("#get-json")).to_be_visible(timeout=PATIENCE)
    assert "20 frames" in tally.inner_text()
    assert page.locator("#timeline .timeline").is_visible()
    playwright.expect(page.locator("#seen video")).to_be_visible(timeout=PATIENCE)
    assert page.locator("#seen video").evaluate("film => film.error") is None
    keep(page, "track")
    for button, kind in (("#get-mp4", "mp4"), ("#get-json", "json")):
        with page.expect_download() as download:
            page.locator(button).click()
        download.value.save_as(tmp_path / kind)
    assert (tmp_path / "mp4").read_bytes()[4:8] == b"ftyp"
    lines = [json.loads(line) for line in (tmp_path / "json").read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(20))


def test_a_made_scene_needs_no_file(page: playwright.Page) -> None:
    page.get_by_role("tab", name="Track").click()
    page.locator("#number input").fill("7")
    page.locator("#watch").click()
    playwright.expect(page.locator("#track-tally")).to_contain_text("scene 7", timeout=PATIENCE)
    playwright.expect(page.locator("#get-mp4")).to_be_visible(timeout=PATIENCE)
    keep(page, "scene")


def test_what_is_no_video_is_refused_in_a_line(page: playwright.Page, tmp_path: Path) -> None:
    (tmp_path / "fake.mp4").write_text("not a video " * 100)
    page.get_by_role("tab", name="Track").click()
    page.locator("#film input[type=file]").set_input_files(tmp_path / "fake.mp4")
    playwright.expect(page.locator("#film")).to_contain_text("fake", timeout=PATIENCE)
    page.locator("#watch").click()
    playwright.expect(page.locator("body")).to_contain_text("this is not a video", timeout=PATIENCE)


def test_one_visitors_job_does_not_stop_anothers(page: playwright.Page, address: str) -> None:
    other = page.context.browser.new_page()
    other.set_default_timeout(PATIENCE)
    other.goto(address)
    for one in (page, other):
        one.locator("#length input[type=number]").fill("8000")
        one.locator("#write").click()
    playwright.expect(page.locator("#tally")).to_contain_text("bytes…", timeout=PATIENCE)
    page.locator("#write-stop").click()
    playwright.expect(page.locator("#tally")).to_contain_text("stopped", timeout=PATIENCE)
    playwright.expect(other.locator("#tally")).to_contain_text("8,000 bytes ·", timeout=PATIENCE)
    assert "stopped" not in other.locator("#tally").inner_text()
    other.close()
