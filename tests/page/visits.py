"""Visits to the page in which nothing may go wrong unnoticed, and what a person does there."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, FilePayload, Page

from tests.support.command import ServeCommand

Visit = Callable[..., Page]

REPORTS = "addEventListener('securitypolicyviolation', (event) => console.error('CSP', event.violatedDirective))"


@contextmanager
def visiting(browser: Browser, address: str, path: str = "/", expected: str = "", **options: Any) -> Iterator[Page]:
    """A page in a context of its own. `expected` is a part of console errors that the test itself causes."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    context.set_default_timeout(20_000)
    page = context.new_page()
    problems: list[str] = []

    def note(problem: str) -> None:
        if not expected or expected not in problem:
            problems.append(problem)

    page.add_init_script(REPORTS)
    page.on("console", lambda message: note(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: note(f"uncaught: {error}"))
    page.on(
        "request", lambda request: None if is_own(request.url, address) else note(f"foreign request: {request.url}")
    )
    page.goto(address + path)
    if path == "/":
        page.wait_for_selector("#try .sample")
    try:
        yield page
        assert problems == []
    finally:
        context.close()


def is_own(url: str, address: str) -> bool:
    return url.startswith((address + "/", f"blob:{address}/")) or url == "about:blank"


def root_of(command: ServeCommand) -> str:
    """`http://host:port` of a server."""
    parts = urlsplit(command.url)
    return f"{parts.scheme}://{parts.netloc}"


def choose(page: Page, name: str, content: bytes, kind: str = "") -> None:
    """Choose one file."""
    file: FilePayload = {"name": name, "mimeType": kind, "buffer": content}
    page.locator("input[type=file]").first.set_input_files(file)


def choose_sample(page: Page, label: str) -> None:
    page.get_by_role("button", name=f"Sample: {label}").click()


def answer(page: Page, name: str) -> str:
    """The label that is shown for the picture of this name, as soon as there is one."""
    found: Any = page.wait_for_function(
        """(name) => document.querySelector('#answer .name').textContent === name
            && document.querySelector('#answer-label').textContent""",
        arg=name,
        polling=5,
    ).json_value()
    return str(found)


def explained(page: Page) -> None:
    """Wait until the layers are shown."""
    page.wait_for_selector("#network:not(.needs-picture)")
    page.wait_for_selector("#why:not(.needs-picture)")
