"""The page in a real browser without a network: no error, no barrier, readable on a phone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from raysweep.history.results import SweepResults
from raysweep.loop.simulation import Fault
from raysweep.reporting.write import page_of
from tests.reporting.sweeps import simulated

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")
DRAWN_MS = 120_000  # a busy machine
SCREENS = {"desktop": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}
TAGS = "<script>alert('trace')</script>"


def asha() -> list[SweepResults]:
    faults = {("00003", 1): Fault(ValueError(TAGS), times=9)}
    return [simulated("tpe_asha", 20, knobs={"startup_trials": 5}, faults=faults)]


def several() -> list[SweepResults]:
    """A population, two metrics, and a sweep like another one, on one page."""
    return [
        simulated("pbt", 6, 8, places=6, sweep_name="population"),
        simulated("multi_objective", 20, 3, knobs={"second_metric": "size"}, sweep_name="two"),
        *asha(),
    ]


MAKERS = {"asha": asha, "several": several}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    flags = ["--no-sandbox", "--enable-unsafe-swiftshader"]  # as root; WebGL without a GPU, for parallel coordinates
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    for name, make in MAKERS.items():
        (folder / f"{name}.html").write_bytes(page_of(make()))
    return {name: folder / f"{name}.html" for name in MAKERS}


class Opened:
    """A page, when all of its charts are drawn, and all that the browser said meanwhile."""

    def __init__(self, browser: Browser, path: Path, screen: str, scheme: str) -> None:
        self.context = browser.new_context(color_scheme=scheme, viewport=SCREENS[screen], offline=True)
        self.page: Page = self.context.new_page()
        self.said: list[str] = []
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        self.page.on("dialog", lambda dialog: (self.said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.page.on("requestfailed", lambda request: self.said.append(f"request: {request.url}"))
        self.page.goto(path.as_uri())
        self.page.wait_for_function("document.documentElement.dataset.drawn", timeout=DRAWN_MS)

    @property
    def errors(self) -> list[str]:
        """All but the driver's words about software rendering."""
        return [each for each in self.said if "GL Driver Message" not in each]


@pytest.mark.parametrize(
    ("name", "screen", "scheme"),
    [("asha", "desktop", "light"), ("asha", "phone", "dark"), ("several", "phone", "light")],
)
def test_it_is_drawn_without_an_error_and_has_no_barrier(
    browser: Browser, files: dict[str, Path], name: str, screen: str, scheme: str
) -> None:
    opened = Opened(browser, files[name], screen, scheme)
    try:
        page = opened.page
        assert opened.errors == []
        assert page.locator("html").get_attribute("data-theme") == scheme
        assert page.locator(".plot:not(:has(.main-svg))").count() == 0
        assert page.locator(".plot").count() > 10
        assert page.evaluate("document.documentElement.scrollWidth") <= SCREENS[screen]["width"]
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
    finally:
        opened.context.close()


def test_theme_and_copying_work_by_the_keyboard(browser: Browser, files: dict[str, Path]) -> None:
    opened = Opened(browser, files["asha"], "desktop", "light")
    try:
        page = opened.page
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the results"
        page.locator("#theme").focus()
        page.keyboard.press("Enter")
        page.wait_for_function("document.documentElement.dataset.drawn === 'dark'", timeout=DRAWN_MS)
        page.locator("[data-copy=s0-step1]").focus()
        page.keyboard.press("Enter")
        page.wait_for_function("document.getElementById('said').textContent")
        assert page.evaluate("getSelection().toString()") == page.locator("#s0-step1").text_content()
        assert opened.errors == []
    finally:
        opened.context.close()


def test_tags_in_a_traceback_and_in_a_choice_are_shown_as_text(browser: Browser, files: dict[str, Path]) -> None:
    opened = Opened(browser, files["asha"], "desktop", "light")
    try:
        page = opened.page
        page.locator(".failure summary").click()
        assert TAGS in (page.locator(".failure pre").first.text_content() or "")
        assert "<script>alert(" in "".join(page.locator(".plot .xtick text").all_text_contents())
        assert [each for each in opened.said if each.startswith("dialog")] == []
    finally:
        opened.context.close()
