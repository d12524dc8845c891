"""The page for everybody: by keyboard, by screen reader, on a small screen, in the dark."""

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.page.visits import Visit, choose_sample, explained

AXE = Path(__file__).parents[2] / "page" / "node_modules" / "axe-core" / "axe.min.js"
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


@pytest.fixture(scope="module")
def axe() -> str:
    if not AXE.exists():
        pytest.skip("needs the page's packages: apt-get install nodejs npm, then make page-tools")
    return AXE.read_text()


def violations(page: Page, axe: str) -> list[str]:
    page.evaluate(axe)
    found: Any = page.evaluate("(rules) => axe.run(document, rules)", RULES)
    return [f"{one['id']}: {node['target']}" for one in found["violations"] for node in one["nodes"]]


def fill(page: Page) -> None:
    """Have something in every section."""
    choose_sample(page, "Ankle boot")
    explained(page)
    page.locator(".layer canvas").nth(3).focus()
    page.keyboard.press("ArrowDown")
    page.locator(".arithmetic details").first.locator("summary").click()
    page.get_by_role("button", name=re.compile("Shirt taken for Coat")).click()
    page.wait_for_selector(".tile")
    page.locator("#service").scroll_into_view_if_needed()
    page.wait_for_selector("#service table")


@pytest.mark.parametrize(("width", "scheme"), [(320, "light"), (1280, "dark")])
def test_axe_finds_nothing_and_nothing_is_wider_than_the_screen(
    visit: Visit, axe: str, width: int, scheme: str
) -> None:
    page = visit(viewport={"width": width, "height": 800}, color_scheme=scheme, reduced_motion="reduce")
    fill(page)
    assert violations(page, axe) == []
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_with_forced_colours_bars_are_seen(visit: Visit) -> None:
    page = visit(forced_colors="active")
    choose_sample(page, "Ankle boot")
    bar = page.locator(".winner .bar")
    assert bar.evaluate("(bar) => getComputedStyle(bar).backgroundColor") not in (
        "rgba(0, 0, 0, 0)",
        "rgb(255, 255, 255)",
    )


def test_reduced_motion_moves_nothing(visit: Visit) -> None:
    page = visit(reduced_motion="reduce")
    assert page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"


def tab_to(page: Page, wanted: Locator) -> None:
    """Press Tab until something has the focus."""
    handle = wanted.element_handle()
    for _ in range(120):
        page.keyboard.press("Tab")
        if handle is not None and handle.evaluate("(element) => element === document.activeElement"):
            return
    raise AssertionError(f"{wanted} cannot be reached by Tab")


def test_everything_is_reached_by_keyboard_alone(visit: Visit) -> None:
    page = visit()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    tab_to(page, page.get_by_role("button", name="Sample: Ankle boot"))
    page.keyboard.press("Enter")
    expect(page.locator("#answer-label")).to_have_text("Ankle boot")
    expect(page.locator("#live")).to_contain_text("Ankle boot")
    explained(page)
    tab_to(page, page.locator("#draw canvas"))
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    for _ in range(10):
        page.keyboard.press("Shift+ArrowDown")
    expect(page.locator("#answer .name")).to_have_text("drawing")
    expect(page.locator("#draw .readout")).to_have_text("row 11, column 6: 255")
    page.keyboard.press("Delete")
    expect(page.locator("#draw .readout")).to_have_text("row 11, column 6: 0")
    tab_to(page, page.get_by_role("button", name="Undo"))
    page.keyboard.press("Enter")
    tab_to(page, page.locator(".layer canvas").nth(1))
    page.keyboard.press("ArrowDown")
    page.keyboard.press("PageDown")
    expect(page.locator(".arithmetic h3")).to_have_text("conv1[2, 2, 1]")
    tab_to(page, page.get_by_label("Filter", exact=True))
    page.keyboard.press("ArrowDown")
    tab_to(page, page.locator(".count").first)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("button", name=re.compile("T-shirt.top taken for Pullover"))).to_be_focused()
    page.keyboard.press("Enter")
    tab_to(page, page.locator(".tile").first)
    page.keyboard.press("Enter")
    expect(page.locator("#answer-label")).to_have_text("Pullover")


def test_every_focus_is_seen(visit: Visit) -> None:
    page = visit()
    for _ in range(40):
        page.keyboard.press("Tab")
        outline = page.evaluate("getComputedStyle(document.activeElement).outline")
        assert "none" not in outline
        assert " 0px" not in outline


def test_targets_are_large_enough(visit: Visit) -> None:
    page = visit(viewport={"width": 320, "height": 800})
    fill(page)
    small = page.evaluate(
        """() => [...document.querySelectorAll('main button, main select, main input')]
            .filter((element) => element.checkVisibility())
            .map((element) => [element.outerHTML.slice(0, 80), element.closest('label') ?? element])
            .filter(([, target]) => Math.min(target.offsetWidth, target.offsetHeight) < 24 && target.type !== 'range')
            .map(([text]) => text)"""
    )
    assert small == []
