"""Debian's Chromium, and visits to the page in which nothing may go wrong unnoticed."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.page.visits import Visit, root_of, visiting
from tests.support.command import ServeCommand


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium with a camera that is none."""
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    arguments = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=arguments)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def address(embedded: ServeCommand) -> str:
    """Where the real gateway serves the page."""
    return root_of(embedded)


@pytest.fixture
def visit(browser: Browser, address: str) -> Iterator[Visit]:
    """Open the page; in the end there must have been no error, no report of the CSP and no foreign request."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(visiting(browser, options.pop("address", address), **options))
