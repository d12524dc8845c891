"""Servers that stop, keys that end, networks that go: what was answered stays, and a sentence says what to do."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from gateway.http.keys import editing
from tests.page.visits import Visit, choose_sample, root_of, visiting
from tests.support.command import ServeCommand, serve_command, wait_until
from tests.support.keys import add_key

RESOURCE = "Failed to load resource"
STATUS = """(key) => fetch('/network.json', { headers: { Authorization: `Bearer ${key}` } })
    .then(({ status }) => status)"""


def test_offline_is_said_and_the_answer_stays(visit: Visit) -> None:
    page = visit(expected=RESOURCE)
    choose_sample(page, "Bag")
    expect(page.locator("#answer-label")).to_have_text("Bag")
    page.wait_for_selector("#why:not(.needs-picture)")
    page.context.set_offline(True)
    page.get_by_label("scaled and centred only").check()
    expect(page.locator("#answer .message")).to_contain_text("This device is offline: connect it")
    expect(page.locator("#answer-label")).to_have_text("Bag")
    page.context.set_offline(False)
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#answer .message")).to_have_count(0)


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServeCommand, Path, str]]:
    """A server that asks for keys, its file of keys, and a key."""
    folder = tmp_path_factory.mktemp("keyed")
    path = folder / "keys.json"
    key, _ = add_key(path)
    with serve_command(folder, "--engine", "embedded", FASHION_MNIST_KEY_FILE=str(path)) as command:
        wait_until(lambda: command.times_ready() == 1, "ready")
        yield command, path, key


def test_a_key_is_asked_for_and_one_that_is_revoked_is_asked_for_again(
    browser: Browser, keyed: tuple[ServeCommand, Path, str]
) -> None:
    command, path, key = keyed
    with visiting(browser, root_of(command), expected=RESOURCE) as page:
        dialog = page.get_by_role("dialog")
        page.get_by_label("Key", exact=True).fill(key)
        page.keyboard.press("Enter")
        expect(page.locator("#layers")).to_be_visible()
        choose_sample(page, "Bag")
        expect(page.locator("#answer-label")).to_have_text("Bag")
        with editing(path) as keys:
            keys.clear()
        other, _ = add_key(path)
        wait_until(lambda: page.evaluate(STATUS, key) == 401, "revoked")
        choose_sample(page, "Coat")
        expect(dialog).to_contain_text("key")
        page.get_by_label("Key", exact=True).fill(other)
        page.get_by_role("button", name="Use this key").click()
        expect(page.locator("#answer-label")).to_have_text("Coat")
        assert (
            page.evaluate(
                "Object.keys(localStorage).length + Object.keys(sessionStorage).length + document.cookie.length"
            )
            == 0
        )


def test_without_a_key_the_page_says_so_and_the_service_only_whether_it_is_ready(
    browser: Browser, keyed: tuple[ServeCommand, Path, str]
) -> None:
    command, _, _ = keyed
    with visiting(browser, root_of(command), expected=RESOURCE) as page:
        page.get_by_role("button", name="Go on without").click()
        page.locator("#service").scroll_into_view_if_needed()
        expect(page.locator("#service")).to_contain_text("Ready")
        expect(page.locator("#service")).to_contain_text("Enter a key")
        choose_sample(page, "Bag")
        page.get_by_role("button", name="Go on without").click()
        expect(page.locator("#answer .message")).to_be_visible()


def test_a_server_that_stops_is_said_and_the_answer_stays(browser: Browser, tmp_path: Path) -> None:
    with serve_command(tmp_path, "--engine", "embedded") as command:
        wait_until(lambda: command.times_ready() == 1, "ready")
        with visiting(browser, root_of(command), expected=RESOURCE) as page:
            choose_sample(page, "Bag")
            page.wait_for_selector("#why:not(.needs-picture)")
            command.end(signal.SIGTERM)
            page.get_by_label("scaled and centred only").check()
            expect(page.locator("#answer .message")).to_contain_text("The server does not answer")
            expect(page.locator("#answer-label")).to_have_text("Bag")
            expect(page.get_by_role("button", name="Try again")).to_be_visible()
