"""report.html in a real browser: it asks for nothing, and mouse, keyboard and screen reader reach all of it.

Needs the extra `browser` and an installed Chromium or Chrome.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from diffnag.search_loop.report.mistakes import MISTAKES
from diffnag.search_loop.report.page import REPORT, write_report
from tests.report_runs import HOSTILE, failed_run, front_run, image_run

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install .[browser]")
PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.skipif(PROGRAM is None, reason="no Chromium or Chrome is installed"),
    pytest.mark.timeout(120),  # the first test of the module pays for two searches and the start of the browser
]
SIZES = {"desktop": (1280, 900), "phone": (360, 740)}


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return front_run(tmp_path_factory.mktemp("front"))


@pytest.fixture(scope="module")
def own_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image_run(tmp_path_factory.mktemp("own"), tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=PROGRAM, args=["--no-sandbox"])
        yield started
        started.close()


@dataclass
class Watched:
    """An open page, and what it asked for and complained of."""

    page: Any
    asked: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Nothing but the file itself was asked for, and nothing went wrong."""
        assert [url for url in self.asked if not url.startswith("data:image/png;base64,")] == [self.page.url.split("#")[0]]
        assert not self.said


def opened(browser: Any, folder: Path, *, size: str = "desktop", scheme: str = "light") -> Watched:
    """The page of a run in a window of its own."""
    width, height = SIZES[size]
    page = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme).new_page()
    watched = Watched(page)
    page.on("request", lambda request: watched.asked.append(request.url))
    page.on("console", lambda message: watched.said.append(message.text))
    page.on("pageerror", lambda error: watched.said.append(str(error)))
    page.on("dialog", lambda dialog: watched.said.append(f"dialog {dialog.message}") or dialog.dismiss())
    page.goto((folder / REPORT).resolve().as_uri())
    page.wait_for_selector("#scatter > *")
    return watched


def point(page: Any, text: str) -> Any:
    """The mark whose label contains `text`."""
    return page.locator(f'#scatter .point[aria-label*="{text}"]').first


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_it_fits_and_asks_for_nothing(browser: Any, front: Path, own_images: Path, size: str, scheme: str) -> None:
    for folder in (front, own_images):
        watched = opened(browser, folder, size=size, scheme=scheme)
        assert watched.page.evaluate("document.documentElement.scrollWidth") == SIZES[size][0]
        ground = watched.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 24, 28)"}[scheme]
        assert watched.page.locator("#curve svg .step").count() == 1
        watched.check()


def test_a_mouse_reads_and_chooses(browser: Any, front: Path) -> None:
    watched = opened(browser, front)
    page, result = watched.page, json.loads((front / "result.json").read_text())
    assert page.locator("#scatter .point").count() == 12 and page.locator("#scatter .mark.front").count() == len(result["front"]["members"])
    assert page.inner_text("#chosen h3").endswith("the best accuracy, on the front") and not page.is_visible("#tip")
    last = min(result["front"]["members"], key=lambda member: member["values"]["params"])
    mark = page.locator(f'#scatter [data-point="{last["number"]}"]')
    mark.hover()
    assert last["arch"] in page.inner_text("#tip") and f"params {int(last['values']['params']):,}" in page.inner_text("#tip")
    mark.click()
    assert page.inner_text("#chosen pre") == last["arch"] and page.locator("#chosen svg.drawing .box").count() == 8
    assert mark.get_attribute("aria-pressed") == "true" and page.locator('#scatter [aria-pressed="true"]').count() == 1
    page.mouse.move(5, 5)
    assert not page.is_visible("#tip")
    watched.check()


def test_a_keyboard_reads_and_chooses(browser: Any, front: Path) -> None:
    watched = opened(browser, front)
    page = watched.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for _ in range(2):
        page.keyboard.press("Tab")  # over the choice of an axis to the plot
    here = "document.activeElement.getAttribute('aria-label')"
    assert "the best accuracy" in page.evaluate(here) and page.is_visible("#tip")
    page.keyboard.press("Home")
    first = page.evaluate(here)
    page.keyboard.press("ArrowRight")
    second = page.evaluate(here)
    assert first != second and second.endswith(page.inner_text("#tip code"))
    assert page.evaluate("getComputedStyle(document.activeElement.querySelector('.halo')).stroke") != "none", "focus is seen"
    page.keyboard.press("Enter")
    assert second.endswith(page.inner_text("#chosen pre")) and page.locator("#chosen svg.drawing").count() == 1
    page.keyboard.press("Escape")
    assert not page.is_visible("#tip")
    seen = {page.evaluate(here)}
    page.keyboard.press("Home")
    for _ in range(11):
        seen.add(page.evaluate(here))
        page.keyboard.press("ArrowRight")
    seen.add(page.evaluate(here))
    assert len(seen) == 12, "every evaluation is reached"
    watched.check()


def test_axis_table_and_copying(browser: Any, front: Path) -> None:
    watched = opened(browser, front, size="phone")
    page = watched.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    before = page.locator("#scatter .point circle.mark").first.get_attribute("cx")
    page.select_option("#axis", label="labels paid for (evaluations)")
    assert page.locator("#scatter .point circle.mark").first.get_attribute("cx") != before
    assert "labels paid for" in page.get_attribute("#scatter svg", "aria-label")
    page.click("summary")
    button = page.locator("button.arch").nth(3)
    button.click()
    arch = button.inner_text()
    assert page.inner_text("#chosen pre") == arch and page.locator("#chosen").bounding_box()["y"] < SIZES["phone"][1]
    page.click("#chosen .copy")
    sync_api.expect(page.locator("#said")).to_have_text("Copied to the clipboard")
    assert page.evaluate("navigator.clipboard.readText()") == arch
    page.set_viewport_size({"width": 800, "height": 700})
    sync_api.expect(page.locator("#scatter svg")).to_have_attribute("viewBox", re.compile(r"0 0 7\d\d "))
    watched.check()


def test_a_screen_reader_has_names_for_all(browser: Any, front: Path, own_images: Path) -> None:
    for folder in (front, own_images):
        watched = opened(browser, folder)
        page = watched.page
        tree = page.locator("body").aria_snapshot()
        assert not re.search(r"- (button|img|combobox|region|group|table)$", tree, flags=re.MULTILINE), "each has a name"
        assert page.locator("main h1").count() == 1 and page.locator("html[lang]").count() == 1
        assert page.evaluate("[...document.querySelectorAll('section')].every(each => document.getElementById(each.getAttribute('aria-labelledby')))")
        assert page.evaluate("[...document.querySelectorAll('th')].every(each => each.scope)")
        ids = page.evaluate("[...document.querySelectorAll('[id]')].map(each => each.id)")
        assert len(ids) == len(set(ids))
        watched.check()


def test_hostile_names_run_nothing(browser: Any, own_images: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(own_images, tmp_path / "run"))
    for name in ("result.json", MISTAKES):
        kept = json.loads((copy / name).read_text())
        (copy / name).write_text(json.dumps({**kept, "classes": [HOSTILE, '"><img src=x onerror=alert(2)>', "</table>"]}))
    trials = (copy / "trials.csv").read_text()
    (copy / "trials.csv").write_text(trials.replace("|+|", f"{HOSTILE}<img src=x onerror=alert(3)>"))
    write_report(copy)
    watched = opened(browser, copy)
    assert watched.page.locator(".confusion thead th").nth(1).inner_text() == HOSTILE
    watched.page.locator("#scatter .point").first.click()
    assert HOSTILE in watched.page.inner_text("#chosen pre")
    watched.check()


def test_a_search_without_a_result(browser: Any, tmp_path: Path) -> None:
    watched = opened(browser, failed_run(tmp_path))
    assert "no evaluation has these values" in watched.page.inner_text("#scatter")
    assert "every evaluation failed" in watched.page.inner_text(".summary")
    watched.check()
