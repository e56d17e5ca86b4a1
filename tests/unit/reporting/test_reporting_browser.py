"""The page as a person meets it: in a browser, on a desk, on a phone, in the dark, on paper, without JavaScript."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from reporting_factory import Made

api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra 'dev')")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

DESK = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
SUMMARY_PAGES = 6


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def opened(browser: Any, made: Made, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The page in a context with the options that the test asks for."""
    context = browser.new_context(**{"viewport": DESK, **getattr(request, "param", {})})
    page = context.new_page()
    page.goto((made.out / "index.html").as_uri())
    yield page
    context.close()


LOOKS = [
    pytest.param({}, id="desk"),
    pytest.param({"color_scheme": "dark"}, id="dark"),
    pytest.param({"viewport": PHONE}, id="phone"),
]


@pytest.mark.parametrize("opened", LOOKS, indirect=True)
def test_axe_has_nothing_to_say(opened: Any) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    for details in opened.locator("details.candidate").all()[
        :2
    ]:  # a reference and a compressed model: the others are alike
        details.locator("summary").first.click()
    found = axe.run(opened).response["violations"]
    assert [(v["id"], v["nodes"][0]["html"][:120]) for v in found] == []


def _wide(page: Any) -> list[str]:
    """Names of what can be scrolled sideways."""
    names: list[str] = page.evaluate(
        "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth + 1)"
        ".map(e => e.getAttribute('aria-label'))"
    )
    return names


def test_nothing_is_cut_off_on_a_desk(opened: Any) -> None:
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert _wide(opened) == []


@pytest.mark.parametrize("opened", [pytest.param({"viewport": PHONE}, id="phone")], indirect=True)
def test_a_phone_shows_the_verdict_and_says_that_there_is_more(opened: Any) -> None:
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert any(name.startswith("Comparison") for name in _wide(opened))
    assert opened.locator(".cue").first.is_visible()
    badge = opened.locator(".compare tbody .badge").first.bounding_box()
    assert badge["x"] + badge["width"] <= PHONE["width"]
    opened.locator(".compare").evaluate("e => e.parentElement.scrollLeft = 400")
    assert opened.locator(".compare tbody th").first.bounding_box()["x"] >= 0  # the model stays
    opened.get_by_role("button", name="Open all").click()
    narrow = opened.evaluate(
        "Math.min(...[...document.querySelectorAll('details dd')].map(e => e.getBoundingClientRect().width))"
    )
    assert narrow > 200


def _pages(page: Any, to: Path) -> int:
    page.pdf(path=to, prefer_css_page_size=True)
    return len(re.findall(rb"/Type\s*/Page\b(?!s)", to.read_bytes()))


def test_print_is_a_summary_and_everything_once_all_is_open(opened: Any, tmp_path: Path) -> None:
    assert _pages(opened, tmp_path / "summary.pdf") <= SUMMARY_PAGES
    opened.emulate_media(media="print")
    assert opened.locator("#verdict").bounding_box()["y"] < 400  # on the first page
    assert not opened.locator("details.candidate").first.is_visible()
    opened.emulate_media(media="screen")
    opened.get_by_role("button", name="Open all").click()
    assert _pages(opened, tmp_path / "all.pdf") > SUMMARY_PAGES


@pytest.mark.parametrize(
    "opened", [pytest.param({"java_script_enabled": False}, id="plain")], indirect=True
)
def test_without_javascript_all_can_be_read(opened: Any) -> None:
    assert not opened.get_by_role("button", name="Open all").is_visible()
    details = opened.locator("details.candidate").nth(1)
    details.locator("summary").first.click()
    assert details.get_by_text("Why this verdict").is_visible()
    assert opened.locator(".compare tbody tr").count() == 6


def test_a_click_on_verdict_sorts_by_what_it_allows(opened: Any) -> None:
    opened.locator(".compare thead").get_by_role("button", name="Verdict").click()
    said = opened.locator(".compare tbody .badge").all_inner_texts()
    words = [text.split()[-1] for text in said]
    ranks = ["pass", "inconclusive", "fail", "reference"]
    assert words == sorted(words, key=ranks.index)


def test_links_work_in_the_frame_in_which_mlflow_shows_it(browser: Any, made: Made) -> None:
    context = browser.new_context(viewport=DESK)
    page = context.new_page()
    page.set_content('<iframe sandbox="allow-scripts" width="1200" height="800"></iframe>')
    page.evaluate(
        "html => { document.querySelector('iframe').src = URL.createObjectURL(new Blob([html], {type: 'text/html'})); }",
        (made.out / "index.html").read_text(),
    )
    frame = page.frame_locator("iframe")
    frame.locator(".findings a").first.click()
    target = frame.locator("details.candidate[open]")
    assert target.count() == 1
    api.expect(target).to_be_in_viewport(timeout=60_000)  # it scrolls there smoothly
    context.close()


def test_every_figure_says_what_it_shows(opened: Any) -> None:
    figures = opened.locator("svg[role=img]")
    assert figures.count() == 5
    for figure in figures.all():
        said = figure.get_attribute("aria-label")
        assert said.count(" ") > 8
        assert re.search(r"\d", said), said  # numbers, not only a title
        assert "mobileone_s0" in said
    assert all(image.get_attribute("alt") for image in opened.locator("img").all())


def test_it_is_light_and_holds_no_formula(made: Made) -> None:
    html = (made.out / "index.html").read_text()
    assert len(html) < 120_000 * len(made.entries)
    assert "mathdefault" not in html
