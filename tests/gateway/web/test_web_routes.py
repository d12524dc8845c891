"""What browsers are served: the page and its files, the model's, the state of the service; and the headers of each."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from fashion_mnist.model_store import EXPLAIN, MISTAKES, MISTAKES_SPRITE, model_card
from fashion_mnist.settings import Settings
from gateway.web.routes import is_on
from tests.support.command import ServeCommand, serve_command, wait_until

TIMEOUT_S = 30
ROOT = Path(__file__).parents[3]


@pytest.fixture(params=["embedded", "in_front"])
def server(request: pytest.FixtureRequest) -> ServeCommand:
    """The gateway with its own engine, and in front of TorchServe."""
    found: ServeCommand = request.getfixturevalue(request.param)
    return found


def get(server: ServeCommand, path: str, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.get(server.url.replace("/predictions/fashion_mnist", path), headers=named, timeout=TIMEOUT_S)


def policy(answer: httpx.Response) -> dict[str, str]:
    directives = answer.headers["content-security-policy"].split(";")
    return {name: value for name, _, value in (each.strip().partition(" ") for each in directives)}


def test_the_page_and_all_that_it_loads_are_there(server: ServeCommand) -> None:
    page = get(server, "/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    loaded = re.findall(r'(?:src|href)="(/page/[^"]+)"', page.text)
    assert any(path.endswith(".js") for path in loaded)
    for path in loaded:
        answer = get(server, path)
        assert answer.status_code == 200, path
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["x-content-type-options"] == "nosniff"


STRICT = {
    "default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "img-src": "'self' blob:",
    "connect-src": "'self'", "base-uri": "'none'", "form-action": "'none'", "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
}  # fmt: skip


@pytest.mark.parametrize("path", ["/", "/page/main.js", "/page/config.json", "/page/samples/bag.png"])
def test_the_policy_is_strict(embedded: ServeCommand, path: str) -> None:
    answer = get(embedded, path)
    assert answer.status_code == 200
    assert policy(answer) == STRICT
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "camera=(self)" in answer.headers["permissions-policy"]
    assert "microphone=()" in answer.headers["permissions-policy"]


def test_the_api_s_page_has_a_policy_of_its_own(server: ServeCommand) -> None:
    answer = get(server, "/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    loose = {name: value for name, value in STRICT.items() if name != "require-trusted-types-for"}
    assert policy(answer) == {**loose, "img-src": "'self' data:"}
    for path in re.findall(r'(?:src|href)="(/page/[^"]+)"', answer.text):
        assert get(server, path).status_code == 200, path


def test_a_browser_that_has_it_gets_no_more_than_that(embedded: ServeCommand) -> None:
    first = get(embedded, "/", accept_encoding="gzip")
    assert first.headers["content-encoding"] == "gzip"
    again = get(embedded, "/", accept_encoding="gzip", if_none_match=first.headers["etag"])
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["content-security-policy"] == first.headers["content-security-policy"]
    network = get(embedded, "/network.json")
    assert get(embedded, "/network.json", if_none_match=network.headers["etag"]).status_code == 304


@pytest.mark.parametrize(
    "path", ["/page/", "/page/nothing.js", "/page/__init__.py", "/page/package.json", "/page/%2e%2e/pyproject.toml"]
)
def test_other_files_are_not_served(embedded: ServeCommand, path: str) -> None:
    answer = get(embedded, path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_files_are_asked_by_get(embedded: ServeCommand) -> None:
    url = embedded.url.replace("/predictions/fashion_mnist", "/network.json")
    assert httpx.post(url, content=b"x", timeout=TIMEOUT_S).status_code == 405
    head = httpx.head(url, timeout=TIMEOUT_S)
    assert (head.status_code, head.content) == (200, b"")


def test_the_network_is_the_one_that_is_described(server: ServeCommand, model_store: Path) -> None:
    from fashion_mnist.description import describe
    from fashion_mnist.network import Network

    network = get(server, "/network.json").json()
    assert network["model_version"] == model_card(model_store)["model_version"]
    assert network["description"] == json.loads(json.dumps(describe(Network())))
    assert sum(len(row["values"]) for row in network["weights"].values()) > 4 / 3 * 4 * 32_998


def test_mistakes_name_their_sprite(server: ServeCommand, model_store: Path) -> None:
    mistakes = get(server, "/mistakes.json").json()
    written: dict[str, Any] = json.loads((model_store / MISTAKES).read_bytes())
    sprite = get(server, mistakes["sprite"].pop("url"))
    assert mistakes == written
    assert sprite.headers["content-type"] == "image/webp"
    assert sprite.content == (model_store / MISTAKES_SPRITE).read_bytes()


def test_the_page_is_told_what_there_is(server: ServeCommand) -> None:
    config = get(server, "/page/config.json").json()
    assert (config["explain"], config["mistakes"], config["keys"]) == (True, True, False)
    assert config["task"]["geometry"] == {"channels": 1, "height": 28, "width": 28}
    assert len(config["samples"]) == 10
    for sample in config["samples"]:
        image = get(server, sample["url"]).content
        url = server.url.replace("/predictions/fashion_mnist", config["predict"])
        assert httpx.post(url, content=image).json()["predictions"][0]["label"] == sample["label"]


def test_the_state_of_the_service(server: ServeCommand, model_store: Path) -> None:
    httpx.post(server.url, content=bytes(784), headers={"Content-Type": "application/octet-stream"})
    wait_until(lambda: get(server, "/status.json").json()["traffic"]["p99_ms"] is not None, "counted requests", 15)
    answer = get(server, "/status.json")
    assert answer.headers["cache-control"] == "no-store"
    status = answer.json()
    version = model_card(model_store)["model_version"]
    assert (status["ready"], status["keys"], status["default_version"]) == (True, False, version)
    (row,) = status["versions"]
    accuracy = model_card(model_store)["evaluation"]["accuracy"]
    assert row == {"version": version, "default": True, "ready": True, "accuracy": accuracy}
    assert 0 < status["traffic"]["p50_ms"] <= status["traffic"]["p99_ms"]
    assert status["traffic"]["requests_per_s"] > 0
    assert [figure["name"] for figure in status["drift"]["figures"]] == ["class", "confidence", "brightness"]


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory, model_store: Path) -> Iterator[ServeCommand]:
    """A server whose model has no layers to show, as those of other makers."""
    store = Path(shutil.copytree(model_store, tmp_path_factory.mktemp("plain") / "store"))
    for name in (EXPLAIN, MISTAKES, MISTAKES_SPRITE):
        (store / name).unlink()
    folder = tmp_path_factory.mktemp("without")
    with serve_command(folder, "--engine", "embedded", FASHION_MNIST_MODEL_STORE=str(store)) as command:
        wait_until(command.times_ready, "ready")
        yield command


def test_a_model_without_layers_is_served_all_the_same(without: ServeCommand) -> None:
    assert get(without, "/").status_code == 200
    config = get(without, "/page/config.json").json()
    assert (config["explain"], config["mistakes"]) == (False, False)
    assert get(without, "/status.json").json()["ready"]
    for path in ("/network.json", "/mistakes.json", "/mistakes.webp"):
        answer = get(without, path)
        assert answer.status_code == 404
        assert "fashion-mnist export" in answer.json()["error"]["message"]
    url = without.url.replace("/predictions/fashion_mnist", "/explain")
    explained = httpx.post(url, content=bytes(784), timeout=TIMEOUT_S)
    assert (explained.status_code, explained.json()["error"]["code"]) == (404, "not_found")
    assert httpx.post(without.url, content=bytes(784), timeout=TIMEOUT_S).status_code == 200


def test_the_page_can_be_switched_off(tmp_path: Path) -> None:
    with serve_command(tmp_path, "--engine", "embedded", FASHION_MNIST_PAGE="off") as command:
        wait_until(command.times_ready, "ready")
        for path in ("/", "/page/main.js", "/page/config.json", "/network.json", "/mistakes.json", "/status.json"):
            assert get(command, path).status_code == 404, path
        url = command.url.replace("/predictions/fashion_mnist", "/explain")
        assert httpx.post(url, content=bytes(784), timeout=TIMEOUT_S).status_code == 404
        docs = get(command, "/docs")
        assert docs.status_code == 200
        for path in re.findall(r'(?:src|href)="(/page/[^"]+)"', docs.text):
            assert get(command, path).status_code == 200, path
        assert "/explain" not in get(command, "/openapi.json").json()["paths"]


@pytest.mark.parametrize(
    ("host", "page", "on"),
    [
        ("127.0.0.1", "auto", True),
        ("localhost", "auto", True),
        ("0.0.0.0", "auto", False),
        ("0.0.0.0", "on", True),
        ("127.0.0.1", "off", False),
    ],
)
def test_it_is_on_by_default_where_nobody_else_reaches_it(host: str, page: str, on: bool) -> None:
    assert is_on(Settings(host=host, page=page)) == on
