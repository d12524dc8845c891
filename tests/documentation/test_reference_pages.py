"""The generated pages are those that the code writes: run `make reference` where one is not."""

import urllib.request
from collections.abc import Callable

import pytest

from deploy.documentation import reference
from tests.support.command import ServeCommand


@pytest.mark.parametrize(
    ("name", "write"),
    [("settings", reference.settings_page), ("errors", reference.errors_page), ("cli", reference.cli_page)],
)
def test_a_page_is_what_the_code_writes(name: str, write: Callable[[], str]) -> None:
    assert (reference.PAGES / f"{name}.md").read_text() == write()


def test_the_metrics_are_those_of_a_server(in_front: ServeCommand) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{in_front.state().admin_port}/metrics", timeout=20) as answer:
        page = reference.metrics_page(answer.read().decode())
    assert (reference.PAGES / "metrics.md").read_text() == page
