"""The page is the same in front of TorchServe, behind HAProxy, and with a model that has less to show."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Route, expect

from fashion_mnist.data.splits import Dataset
from fashion_mnist.encoding import encode_image
from tests.page.visits import Visit, answer, choose, choose_sample, explained, root_of, visiting
from tests.support.command import ServeCommand
from tests.support.proxy import Proxy


def test_the_page_shows_what_torchserve_answers(browser: Browser, in_front: ServeCommand, dataset: Dataset) -> None:
    with visiting(browser, root_of(in_front)) as page:
        choose(page, "boot.png", encode_image(dataset.test.images[0].squeeze()), "image/png")
        assert answer(page, "boot.png") == "Ankle boot"
        explained(page)


def test_the_page_works_behind_haproxy_at_its_default_rate(
    browser: Browser, embedded: ServeCommand, tmp_path: Path
) -> None:
    with Proxy(tmp_path, {"GATEWAY_A": urlsplit(embedded.url).netloc}, rate=200).running() as proxy:
        proxy.wait("a", up=True)
        with visiting(browser, proxy.url, ignore_https_errors=True) as page:
            choose_sample(page, "Trouser")
            expect(page.locator("#answer-label")).to_have_text("Trouser")
            explained(page)


def test_what_a_model_lacks_is_left_out(visit: Visit) -> None:
    page = visit(path="/docs")

    def without(route: Route) -> None:
        config: dict[str, Any] = route.fetch().json()
        route.fulfill(json=config | {"explain": False, "mistakes": False})

    page.route("**/page/config.json", without)
    page.goto(page.url.removesuffix("docs"))
    choose_sample(page, "Trouser")
    expect(page.locator("#answer-label")).to_have_text("Trouser")
    for section in ("preparation", "network", "filters", "why", "layers", "mistakes"):
        expect(page.locator(f"#{section}")).to_be_hidden()
    expect(page.locator("#contents").get_by_role("link")).to_have_text(["Try", "Draw", "Service"])
