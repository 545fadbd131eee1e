"""The page in Chromium: typing, clicking, uploads and downloads.

Screenshots are written to the folder CANTON_SCREENSHOTS, if it is set.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gradio", reason="gradio is not installed (canton-torch[ui])")
pytest.importorskip("av", reason="av is not installed (canton-torch[track])")
pytest.importorskip("trackers", reason="trackers is not installed (canton-torch[track])")
playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed (canton-torch[dev])"
)
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
    from canton.text import Architecture, TrainConfig, train
    from canton.ui import text_tab
    from canton.ui.app import serve

    def generate_slowly(*arguments: Any, **options: Any) -> Iterator[bytes]:
        for piece in generate(*arguments, **options):
            time.sleep(0.1)  # else all bytes may be generated before the click on Stop
            yield piece

    folder = tmp_path_factory.mktemp("models")
    small = Architecture(hidden_size=24, embedding_size=12, contexts=(), ngram_orders=(), ngram_words=())
    train(TrainConfig(model=small, steps=20), out=folder / "small.safetensors")
    generate = text_tab.generate
    with pytest.MonkeyPatch.context() as patch, serve(folder, port=0) as url:
        patch.setattr(text_tab, "generate", generate_slowly)
        yield url


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return two seconds of video with a bright moving square, under a name that looks like another path."""
    from canton.track.video.writer import VideoWriter

    path = tmp_path_factory.mktemp("video") / "..%2F..%2Fetc passwd;.mp4"
    sky = np.random.default_rng(0).integers(60, 80, (256, 320, 3)).astype(np.uint8)
    with VideoWriter(path, 320, 256, 10) as writer:
        for t in range(20):
            frame = sky.copy()
            frame[100 + 2 * t : 108 + 2 * t, 40 + 9 * t : 48 + 9 * t] = 240
            writer.write(frame)
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright.Browser]:
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@contextmanager
def visit(browser: playwright.Browser, address: str, size: str) -> Iterator[playwright.Page]:
    """Open the page as a new visitor; fail on a script error or a request to another host."""
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height})
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE)
    faults: list[str] = []
    opened.on("pageerror", lambda fault: faults.append(str(fault)))
    opened.on("request", lambda sent: faults.append(sent.url) if is_outside(sent.url, address) else None)
    opened.goto(address)
    opened.locator("#write").wait_for()
    playwright.expect(opened.locator("#text-model input")).to_have_value(re.compile("."), timeout=PATIENCE)
    yield opened
    context.close()
    assert not faults


def is_outside(url: str, address: str) -> bool:
    return not url.startswith((address, "data:", "blob:", "about:"))


@pytest.fixture(params=SIZES)
def page(
    request: pytest.FixtureRequest, browser: playwright.Browser, address: str
) -> Iterator[playwright.Page]:
    with visit(browser, address, request.param) as opened:
        yield opened


@pytest.fixture
def wide(browser: playwright.Browser, address: str) -> Iterator[playwright.Page]:
    with visit(browser, address, "wide") as opened:
        yield opened


def keep(page: playwright.Page, name: str) -> None:
    """Take a screenshot if wanted, and check that nothing is wider than the page."""
    width = page.viewport_size["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if folder := os.environ.get("CANTON_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}_{width}.png", full_page=True)


def box(page: playwright.Page, selector: str) -> dict[str, float]:
    """Return the position of an element on the whole page, in px."""
    return page.locator(selector).evaluate(
        "e => { const b = e.getBoundingClientRect();"
        " return { x: b.x, y: b.y + scrollY, width: b.width, height: b.height } }"
    )


def ask_for(page: playwright.Page, count: int) -> None:
    page.locator("#length input[type=number]").fill(str(count))
    page.locator("#length input[type=number]").press("Tab")


def test_generate_in_colours_and_stop(page: playwright.Page) -> None:
    tally, written = page.locator("#write-stats"), page.locator("#generated")
    keep(page, "before")
    place = box(page, "#generated")
    page.locator("#prompt textarea").fill("What is ")
    ask_for(page, 1500)
    assert page.locator("#write-stop").is_disabled()
    page.locator("#write").click()
    playwright.expect(tally).to_contain_text("bits per byte", timeout=PATIENCE)
    assert re.match(r"1,500 bytes · \d+\.\d\d bits per byte · .* bytes/s · seed \d+", tally.inner_text())
    assert written.inner_text().strip().startswith("What is ")
    shades = written.locator("i").evaluate_all("all => all.map(s => getComputedStyle(s).backgroundColor)")
    assert len(set(shades)) > 3
    assert box(page, "#generated") == place, "what was written moved the page"
    hidden, below = written.evaluate(
        "e => [e.scrollHeight - e.clientHeight, e.scrollHeight - e.clientHeight - e.scrollTop]"
    )
    assert hidden > 0, "a long text must scroll"
    assert below < 50, "its end is not in view"
    keep(page, "text")
    ask_for(page, 8000)
    page.locator("#write").click()
    playwright.expect(tally).to_contain_text("bytes…", timeout=PATIENCE)
    page.locator("#write-stop").click()
    playwright.expect(tally).to_contain_text("stopped", timeout=PATIENCE)
    assert int(re.match(r"[\d,]+", tally.inner_text())[0].replace(",", "")) < 8000  # type: ignore[index]
    playwright.expect(page.locator("#write")).to_be_enabled()


def test_score_shows_alternatives(page: playwright.Page) -> None:
    page.locator("#score-text textarea").fill("The list is sorted. Qzx!")
    page.locator("#score").click()
    inside = page.frame_locator("#scored iframe")
    inside.locator("body").wait_for()
    playwright.expect(inside.locator("body")).to_contain_text("bits per byte", timeout=PATIENCE)
    letter, tip = inside.locator("#text span").filter(has_text="Q").first, inside.locator("#tip")
    for _ in range(40):  # on a small page the result still scrolls into view, away from under the pointer
        letter.hover()
        if tip.is_visible():
            break
        page.wait_for_timeout(250)
    playwright.expect(tip).to_be_visible()
    assert len(re.findall(r"\d+(?:\.\d+)? ?%", tip.inner_text())) == 5, tip.inner_text()
    keep(page, "score")


def test_the_scored_text_sets_the_height_of_its_frame(wide: playwright.Page) -> None:
    heights = [0.0]
    for lines in (1, 15, 400):
        wide.locator("#score-text textarea").fill("\n".join(["a line of text"] * lines))
        wide.locator("#score").click()
        inside = wide.frame_locator("#scored iframe").locator("header")
        playwright.expect(inside).to_contain_text(f"{15 * lines - 1:,} bytes", timeout=PATIENCE)
        taller = "least => parseFloat(document.querySelector('#scored iframe').style.height) > least"
        wide.wait_for_function(taller, arg=heights[-1])  # the height is sent after layout
        heights.append(box(wide, "#scored iframe")["height"])
    assert heights[-1] <= 0.8 * SIZES["wide"][1], heights


def test_track_an_uploaded_video(page: playwright.Page, video: Path, tmp_path: Path) -> None:
    page.get_by_role("tab", name="Track").click()
    places = [box(page, part) for part in ("#stage", "#timeline", "#get-json")]
    page.locator("#video input[type=file]").set_input_files(video)
    playwright.expect(page.locator("#video")).to_contain_text("passwd", timeout=PATIENCE)
    page.locator("#watch").click()
    tally = page.locator("#track-stats")
    playwright.expect(page.locator("#get-json")).to_be_enabled(timeout=PATIENCE)
    assert "20 frames" in tally.inner_text()
    playwright.expect(page.locator("#result video")).to_be_visible(timeout=PATIENCE)
    page.wait_for_function("document.querySelector('#result video').readyState >= 2")
    assert page.locator("#result video").evaluate("video => video.error") is None
    stage, line, _ = (box(page, part) for part in ("#stage", "#timeline", "#get-json"))
    assert stage == places[0], "the video moved the page"
    assert (line["x"], line["y"], line["width"]) == tuple(places[1][k] for k in ("x", "y", "width"))
    keep(page, "track")
    curve = page.locator("#timeline .timeline")
    curve.click(position={"x": 0.75 * line["width"], "y": 30})
    assert 1 < page.locator("#result video").evaluate("video => video.currentTime") < 2
    for button, kind in (("#get-mp4", "mp4"), ("#get-json", "json")):
        with page.expect_download() as download:
            page.locator(button).click()
        download.value.save_as(tmp_path / kind)
    assert (tmp_path / "mp4").read_bytes()[4:8] == b"ftyp"
    lines = [json.loads(line) for line in (tmp_path / "json").read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(20))


def test_track_a_synthetic_scene(page: playwright.Page) -> None:
    page.get_by_role("tab", name="Track").click()
    page.locator("#scene-seed input").fill("7")
    page.locator("#watch").click()
    tally = page.locator("#track-stats")
    playwright.expect(tally).to_contain_text("scene 7", timeout=PATIENCE)
    playwright.expect(page.locator("#live img")).to_be_visible(timeout=PATIENCE)
    playwright.expect(page.locator("#get-mp4")).to_be_enabled(timeout=PATIENCE)
    followed = re.search(r"(\d+) tracks?", tally.inner_text())
    assert followed is not None
    assert int(followed[1]) >= 1, "the drone in it is found"
    assert "suits this video better" not in tally.inner_text(), (
        "a scene by heat, and the infrared model is the first"
    )
    playwright.expect(page.locator("#timeline .lane")).to_have_count(int(followed[1]))
    keep(page, "scene")


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        (b"not a video " * 100, "fake.mp4", "this is not a video"),
        (b"", "empty.mp4", "0 bytes"),
        (b"\0\0\0\x18ftypmp42" + b"\0" * 500, "broken.mp4", "the file"),
        (b"#EXTM3U\nfile:///etc/passwd\n", "list.avi", "this is not a video"),
    ],
)
def test_a_file_that_is_not_a_video_is_refused(
    wide: playwright.Page, tmp_path: Path, content: bytes, name: str, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    wide.get_by_role("tab", name="Track").click()
    wide.locator("#video input[type=file]").set_input_files(tmp_path / name)
    playwright.expect(wide.locator("#video")).to_contain_text(name.partition(".")[0], timeout=PATIENCE)
    wide.locator("#watch").click()
    toast = wide.locator(".toast-body")
    playwright.expect(toast).to_contain_text(said, timeout=PATIENCE)
    assert len(toast.inner_text().strip().splitlines()) <= 3
    keep(wide, f"refused_{name}")
    playwright.expect(wide.locator("#live")).to_contain_text("appears here")
    playwright.expect(wide.locator("#watch")).to_be_enabled()
    assert wide.locator("#watch-stop").is_disabled()


def test_a_file_that_is_not_a_model_is_refused(wide: playwright.Page, tmp_path: Path) -> None:
    (tmp_path / "wrong.safetensors").write_bytes(b"nothing of the kind")
    wide.locator("input[type=file]").first.set_input_files(tmp_path / "wrong.safetensors")
    playwright.expect(wide.locator(".toast-body")).to_contain_text("the file", timeout=PATIENCE)
    assert wide.locator("#text-model input").input_value() == "text (pretrained)"


def test_stop_affects_only_ones_own_job(
    wide: playwright.Page, browser: playwright.Browser, address: str
) -> None:
    with visit(browser, address, "wide") as other:
        for one in (wide, other):
            ask_for(one, 8000)
        other.locator("#write").click()
        playwright.expect(other.locator("#write-stats")).to_contain_text("bytes…", timeout=PATIENCE)
        wide.locator("#write").click()
        playwright.expect(wide.locator("#write-stop")).to_be_enabled(timeout=PATIENCE)
        wide.locator("#write-stop").click()
        playwright.expect(wide.locator("#write-stats")).to_contain_text("stopped", timeout=PATIENCE)
        playwright.expect(other.locator("#write-stats")).to_contain_text("8,000 bytes ·", timeout=PATIENCE)
        assert "stopped" not in other.locator("#write-stats").inner_text()
