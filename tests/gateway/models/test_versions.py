"""Several versions of the model side by side: addressed by path, chosen and unloaded without a lost request."""

import contextlib
import dataclasses
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import httpx
import numpy as np
import psutil
import pytest

from fashion_mnist.classes import CLASSES
from fashion_mnist.data.splits import Dataset
from fashion_mnist.drift import FIGURES, Reference
from fashion_mnist.engines import open_engine
from fashion_mnist.errors import VersionError
from fashion_mnist.model_store import HEALTH_IMAGE, model_card
from fashion_mnist.settings import Settings
from fashion_mnist.system import checksums
from gateway.http.keys import ADMIN, PREDICT, create, editing
from gateway.process.rollout import Rollout
from gateway.protocols import inference_pb2 as pb
from tests.support.command import COMMAND, ServeCommand, gone, serve_command, wait_until
from tests.support.grpc_calls import Stub, tensor
from tests.support.http import read_answer, request
from tests.support.load import sending
from tests.support.samples import scrape
from tests.support.versions import FIRST, Operator, altered, export_swapped, named, swapped

TIMEOUT_S = 20.0
NATIVE = "/predictions/fashion_mnist"
OIP = "/v2/models/fashion_mnist"
V1 = "/v1/models/fashion_mnist"


def told_accuracy(folder: Path) -> str:
    """What the card of a version says of it, as people are told."""
    return f"{model_card(folder)['evaluation']['accuracy']:.2%}"


@pytest.fixture(scope="session")
def second(model_store: Path, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 2.0 as `fashion-mnist export` writes it; not to be changed."""
    return export_swapped(model_store, tmp_path_factory.mktemp("versions") / "exported", dataset)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeCommand]:
    with serve_command(tmp_path_factory.mktemp("serve"), "--engine", "embedded") as command:
        wait_until(lambda: command.times_ready() == 1 or command.process.poll() is not None, "ready")
        yield command


@pytest.fixture
def operator(server: ServeCommand) -> Iterator[Operator]:
    """Of a server with the released version alone, before and after the test."""
    found = Operator(server)
    found.reset()
    yield found
    found.reset()
    assert found.names() == (FIRST, [FIRST])


@pytest.fixture(scope="module")
def images(dataset: Dataset, model_store: Path) -> "Images":
    found = dataset.test.images[:400]
    index = open_engine(model_store, "onnx", "cpu").predict(found).argmax(axis=1)
    first = [CLASSES[place] for place in index]
    return Images(found, {FIRST: first, "2.0": [swapped(label) for label in first]})


@dataclasses.dataclass
class Images:
    """Images, and what each version says of them."""

    pixels: np.ndarray
    labels: dict[str, list[str]]

    @property
    def telling(self) -> int:
        """The place of one of which the versions say different things."""
        return next(place for place, label in enumerate(self.labels[FIRST]) if label != self.labels["2.0"][place])


def base(command: ServeCommand) -> str:
    return command.url.removesuffix(NATIVE)


def answered_by(command: ServeCommand, images: Images, version: str = "") -> set[str]:
    """The versions that answer, in each protocol, a request that names this version, or none.

    VersionReport by the label where the protocol's answer does not say it; both must agree.
    """
    place = images.telling
    pixels, by_label = images.pixels[place], {labels[place]: name for name, labels in images.labels.items()}
    part = f"/versions/{version}" if version else ""
    native = httpx.post(
        base(command) + NATIVE + (f"/{version}" if version else ""), content=pixels.tobytes(), timeout=TIMEOUT_S
    ).json()
    said = {"name": "images", "datatype": "UINT8", "shape": [1, 28, 28], "data": pixels.tolist()}
    oip = httpx.post(f"{base(command)}{OIP}{part}/infer", json={"inputs": [said]}, timeout=TIMEOUT_S).json()
    (oip_label,) = (output["data"] for output in oip["outputs"] if output["name"] == "label")
    v1 = httpx.post(
        f"{base(command)}{V1}{part}:predict", json={"instances": [pixels.tolist()]}, timeout=TIMEOUT_S
    ).json()
    stub = Stub(command)
    with stub.channel:
        call = stub.infer(
            model_version=version,
            inputs=[tensor("UINT8", [1, 28, 28])],
            raw_input_contents=[pixels.tobytes()],
            outputs=[{"name": "label"}],
        )
    return {
        native["model_version"],
        by_label[native["predictions"][0]["label"]],
        oip["model_version"],
        by_label[oip_label[0]],
        by_label[v1["predictions"][0]["label"]],
        call.model_version,
        by_label[call.raw_output_contents[0][4:].decode()],
    }


def test_a_version_is_loaded_checked_and_addressed_by_every_protocol(
    operator: Operator, second: Path, images: Images
) -> None:
    command = operator.command
    found = operator.load(second)
    assert (found["version"], found["health_check"], found["images"]) == ("2.0", "passed", 10_000)
    assert found["accuracy"] == found["card_accuracy"] == model_card(second)["evaluation"]["accuracy"]
    assert operator.names() == (FIRST, [FIRST, "2.0"])
    assert answered_by(command, images) == {FIRST}
    assert answered_by(command, images, FIRST) == {FIRST}
    assert answered_by(command, images, "2.0") == {"2.0"}

    def get(path: str) -> Any:
        return httpx.get(base(command) + path, timeout=TIMEOUT_S).json()

    assert get(OIP)["versions"] == get(f"{OIP}/versions/2.0")["versions"] == [FIRST, "2.0"]
    assert get(f"{OIP}/versions/2.0/ready") == {"name": "fashion_mnist", "ready": True}
    states = [(row["version"], row["state"]) for row in get(V1)["model_version_status"]]
    assert states == [(FIRST, "AVAILABLE"), ("2.0", "AVAILABLE")]
    assert [row["version"] for row in get(f"{V1}/versions/2.0")["model_version_status"]] == ["2.0"]
    assert {f"{NATIVE}/2.0", f"{OIP}/versions/2.0/infer", f"{V1}/versions/2.0:predict"} <= get("/openapi.json")[
        "paths"
    ].keys()
    stub = Stub(command)
    with stub.channel:
        assert list(stub("ModelMetadata", pb.ModelMetadataRequest(name="fashion_mnist")).versions) == [FIRST, "2.0"]
        assert stub("ModelReady", pb.ModelReadyRequest(name="fashion_mnist", version="2.0")).ready


def test_unknown_versions_are_not_found_by_any_protocol(operator: Operator) -> None:
    command = operator.command
    for path in (f"{NATIVE}/2.0", f"{OIP}/versions/2.0/infer", f"{V1}/versions/2.0:predict"):
        response = httpx.post(base(command) + path, content=bytes(784), timeout=TIMEOUT_S)
        assert response.status_code == 404
        assert "'2.0'" in response.text
        assert FIRST in response.text
    for path in (f"{OIP}/versions/2.0", f"{OIP}/versions/2.0/ready", f"{V1}/versions/2.0"):
        assert httpx.get(base(command) + path, timeout=TIMEOUT_S).status_code == 404
    stub = Stub(command)
    with stub.channel, pytest.raises(grpc.RpcError) as refused:
        stub.infer(model_version="2.0", inputs=[tensor("UINT8", [1, 28, 28])], raw_input_contents=[bytes(784)])
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


def test_another_default_answers_at_once_and_the_former_one_again(
    operator: Operator, second: Path, images: Images
) -> None:
    operator.load(second)
    for version in ("2.0", FIRST, "2.0"):
        operator.use(version)
        assert operator.names()[0] == version
        assert answered_by(operator.command, images) == {version}
        assert httpx.get(f"{base(operator.command)}/v2", timeout=TIMEOUT_S).json()["version"] == version
    assert answered_by(operator.command, images, FIRST) == {FIRST}


def test_a_connection_that_sends_the_same_head_over_and_over_sees_each_change(operator: Operator, second: Path) -> None:
    """The service remembers heads: what it made of them must not outlive a change."""
    address = urlsplit(operator.command.url)
    with socket.create_connection((str(address.hostname), address.port), timeout=TIMEOUT_S) as connection:

        def ask(path: str) -> str:
            for _ in range(2):
                connection.sendall(request(bytes(784), path=path))
                answer = read_answer(connection)
            return json.loads(answer.body)["model_version"] if answer.status == 200 else str(answer.status)

        assert [ask(NATIVE), ask(f"{NATIVE}/2.0")] == [FIRST, "404"]
        operator.load(second)
        assert [ask(NATIVE), ask(f"{NATIVE}/2.0")] == [FIRST, "2.0"]
        operator.use("2.0")
        assert [ask(NATIVE), ask(f"{NATIVE}/{FIRST}")] == ["2.0", FIRST]
        operator.use(FIRST)
        operator.unload("2.0")
        assert [ask(NATIVE), ask(f"{NATIVE}/2.0")] == [FIRST, "404"]


def test_the_table_counts_what_each_version_answered(operator: Operator, second: Path) -> None:
    operator.load(second)
    before = {row["version"]: row["requests"] for row in operator.rows()}
    assert before["2.0"] == 0
    with httpx.Client(timeout=TIMEOUT_S) as client:
        for _ in range(5):
            assert client.post(f"{base(operator.command)}{NATIVE}/2.0", content=bytes(784)).status_code == 200

    def answered() -> dict[str, int]:
        return {row["version"]: row["requests"] - before[row["version"]] for row in operator.rows()}

    wait_until(lambda: answered() == {FIRST: 0, "2.0": 5}, "the count", 10)
    found = scrape(operator.command)
    assert found["serving_version_requests_total", (("version", "2.0"),)] == 5
    assert found["serving_version_ready", (("version", "2.0"),)] == 1
    assert found["serving_version_default", (("version", "2.0"),)] == 0
    assert found["serving_version_default", (("version", FIRST),)] == 1


def test_drift_is_measured_from_what_the_default_was_trained_on(
    operator: Operator, second: Path, model_store: Path
) -> None:
    operator.load(second)
    for version, folder in (("2.0", second), (FIRST, model_store)):
        operator.use(version)
        reference = Reference.from_card(model_card(folder))
        assert reference is not None
        found = scrape(operator.command)
        assert found["serving_drift_images", ()] == 0
        for figure, threshold in zip(FIGURES, reference.thresholds, strict=True):
            assert found["serving_drift_threshold", (("figure", figure),)] == threshold


class Clients:
    """Clients that ask all the time, and note which version answered, and whether with what it says of the image."""

    def __init__(self, url: str, images: Images) -> None:
        self._url = url
        self._images = images
        self.outcomes: Counter[str] = Counter()
        self.stopped = False

    def wait_for(self, version: str, more: int = 50) -> None:
        target = self.outcomes[version] + more
        wait_until(lambda: self.outcomes[version] >= target, f"{more} more answers of {version}", 60)

    def send(self, start: int, step: int) -> None:
        with httpx.Client(timeout=TIMEOUT_S) as client:
            for place in itertools.cycle(range(start, len(self._images.pixels), step)):
                if self.stopped:
                    return
                try:
                    response = client.post(self._url, content=self._images.pixels[place].tobytes())
                except httpx.TransportError as error:
                    self.outcomes[f"lost: {error!r}"] += 1
                    continue
                if response.status_code != 200:
                    self.outcomes[str(response.status_code)] += 1
                    continue
                answer = response.json()
                version, label = answer["model_version"], answer["predictions"][0]["label"]
                right = label == self._images.labels[version][place]
                self.outcomes[version if right else f"wrong by {version}"] += 1


@contextlib.contextmanager
def clients(url: str, images: Images, count: int = 8) -> Iterator[Clients]:
    found = Clients(url, images)
    with sending(found, lambda place: found.send(place, count), count):
        yield found


@pytest.mark.parametrize(("engine", "gateways"), [("embedded", "2"), ("torchserve", "1")])
def test_no_request_is_lost_while_versions_come_and_go(
    tmp_path: Path, second: Path, images: Images, engine: str, gateways: str
) -> None:
    """Loaded, made the default, rolled back, made the default again, the old one unloaded: all under load."""
    with serve_command(tmp_path, "--engine", engine, "--gateways", gateways) as command:
        wait_until(lambda: command.times_ready() == 1, "ready")
        operator = Operator(command)
        with clients(command.url, images) as found:
            found.wait_for(FIRST)
            operator.load(second)
            assert set(found.outcomes) == {FIRST}
            for version in ("2.0", FIRST, "2.0"):
                operator.use(version)
                # From now on nothing that is sent is answered by another.
                told = httpx.post(command.url, content=bytes(784), timeout=TIMEOUT_S).json()
                assert told["model_version"] == version
                found.wait_for(version)
            operator.unload(FIRST)
            found.wait_for("2.0")
        assert set(found.outcomes) == {FIRST, "2.0"}
        assert operator.names() == ("2.0", ["2.0"])
        family = command.family()
        if engine == "torchserve":
            assert len(command.jvms()) == 1
        assert command.end() == 0
        assert gone(family)


def test_what_is_in_flight_is_answered_before_its_version_is_gone(tmp_path: Path, second: Path, images: Images) -> None:
    """Whether it is being decoded, waits, or is computed."""
    many = np.resize(images.pixels, (10_000, 1, 28, 28))
    expected = np.resize(np.array(images.labels["2.0"]), 10_000)
    started = threading.Barrier(9)
    with serve_command(tmp_path, "--engine", "embedded", FASHION_MNIST_MAX_QUEUED_IMAGES="1000000") as command:
        wait_until(lambda: command.times_ready() == 1, "ready")
        operator, url = Operator(command), f"{command.url}/2.0"
        operator.load(second)

        def send(place: int) -> httpx.Response:
            as_json = many[:1200].tolist() if place % 2 else None
            started.wait(TIMEOUT_S)
            if as_json is None:
                return httpx.post(url, content=many.tobytes(), timeout=TIMEOUT_S)
            return httpx.post(url, json=as_json, timeout=TIMEOUT_S)

        with ThreadPoolExecutor(8) as pool:
            sent = [pool.submit(send, place) for place in range(8)]
            started.wait(TIMEOUT_S)
            wait_until(lambda: scrape(command)["serving_buffered_bytes", ()] > 0, "requests", 10)
            operator.unload("2.0")
            assert httpx.post(url, content=bytes(784), timeout=TIMEOUT_S).status_code == 404
            responses = [future.result(TIMEOUT_S) for future in sent]
        answered = [response.json() for response in responses if response.status_code == 200]
        # The others came only when the version was gone.
        assert {response.status_code for response in responses} <= {200, 404}
        assert answered
        for answer in answered:
            labels = [prediction["label"] for prediction in answer["predictions"]]
            assert labels == expected[: len(labels)].tolist()
            assert answer["model_version"] == "2.0"


def test_a_gateway_that_is_killed_comes_back_with_the_same_versions_and_default(
    operator: Operator, second: Path, images: Images, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(second, tmp_path / "copy"))
    operator.load(folder)
    operator.use("2.0")
    shutil.rmtree(folder)  # what becomes of it is of no importance any more
    with clients(operator.command.url, images) as found:
        found.wait_for("2.0")
        operator.command.gateway().kill()
        found.wait_for("2.0")
    assert {outcome.partition(":")[0] for outcome in found.outcomes} <= {"2.0", "lost"}
    assert answered_by(operator.command, images) == {"2.0"}
    assert answered_by(operator.command, images, FIRST) == {FIRST}
    wait_until(lambda: {row["state"] for row in operator.rows()} == {"ready"}, "ready again", 10)
    assert operator.names() == ("2.0", [FIRST, "2.0"])


def test_a_gateway_that_dies_during_a_load_takes_nothing_but_the_load_with_it(
    operator: Operator, second: Path, images: Images
) -> None:
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(operator.try_to_load, second)
        wait_until(lambda: len(operator.rows()) == 2 or loading.done(), "the load", 10)
        operator.command.gateway().kill()
        status = loading.result(TIMEOUT_S).status_code
    # It may have been ready before.
    assert status in (200, 409)
    assert operator.names() == (FIRST, [FIRST, "2.0"] if status == 200 else [FIRST])
    wait_until(lambda: {row["state"] for row in operator.rows()} == {"ready"}, "ready again", 10)
    assert answered_by(operator.command, images) == {FIRST}
    if status == 409:
        operator.load(second)


def refused(operator: Operator, response: httpx.Response, status: int, *words: str) -> None:
    """It was refused for this reason, and nothing has changed."""
    assert response.status_code == status, response.text
    for word in words:
        assert word in response.json()["error"]["message"]
    assert operator.names() == (FIRST, [FIRST])
    assert httpx.post(operator.command.url, content=bytes(784), timeout=TIMEOUT_S).status_code == 200


class TestWhatIsNotLoaded:
    def test_a_folder_that_is_none(self, operator: Operator, tmp_path: Path) -> None:
        refused(operator, operator.try_to_load(tmp_path / "nowhere"), 409, "nowhere", "no folder")
        refused(operator, operator.try_to_load(tmp_path), 409, "SHA256SUMS")

    @pytest.mark.parametrize("name", ["model.onnx", "model.torchscript.pt", "model_card.json"])
    def test_a_file_that_is_altered_or_missing(
        self, operator: Operator, second: Path, tmp_path: Path, name: str
    ) -> None:
        folder = Path(shutil.copytree(second, tmp_path / "copy"))
        with (folder / name).open("ab") as file:
            file.write(b" ")
        refused(operator, operator.try_to_load(folder), 409, name, "checksum")
        (folder / name).unlink()
        refused(operator, operator.try_to_load(folder), 409, name)
        (folder / name).mkdir()
        refused(operator, operator.try_to_load(folder), 409, name)

    @pytest.mark.parametrize("version", ["", "1/2", "../1", "1 0", "1" * 65, 2, None])
    def test_a_version_that_fits_no_url(self, operator: Operator, second: Path, tmp_path: Path, version: Any) -> None:
        refused(operator, operator.try_to_load(named(second, tmp_path / "copy", version)), 409, "version")

    def test_a_card_of_something_else(self, operator: Operator, second: Path, tmp_path: Path) -> None:
        other = altered(second, tmp_path / "other", lambda card: card["task"].update(name="mnist"))
        refused(operator, operator.try_to_load(other), 409, "'mnist'")
        empty = altered(second, tmp_path / "empty", lambda card: card.clear())
        refused(operator, operator.try_to_load(empty), 409, "no model card")

    def test_a_version_that_is_loaded_already(self, operator: Operator, model_store: Path) -> None:
        refused(operator, operator.try_to_load(model_store), 409, f"{FIRST} is loaded already")

    def test_a_model_that_is_not_as_good_as_its_card_says(
        self, operator: Operator, second: Path, tmp_path: Path
    ) -> None:
        folder = altered(second, tmp_path / "copy", lambda card: card["evaluation"].update(accuracy=0.9))
        refused(operator, operator.try_to_load(folder), 409, told_accuracy(second), "90.00%")
        silent = altered(second, tmp_path / "silent", lambda card: card.pop("evaluation"))
        refused(operator, operator.try_to_load(silent), 409, "evaluation.accuracy")

    def test_a_model_that_fails_its_health_check(self, operator: Operator, second: Path, tmp_path: Path) -> None:
        folder = Path(shutil.copytree(second, tmp_path / "copy"))
        _exchange_boots(folder)
        refused(operator, operator.try_to_load(folder, without_data=True), 409, HEALTH_IMAGE[1])

    def test_a_model_with_another_input(self, operator: Operator, second: Path, tmp_path: Path) -> None:
        folder = Path(shutil.copytree(second, tmp_path / "copy"))
        (folder / "model.onnx").write_bytes(b"no model")
        checksums.write(folder, checksums.read(folder))
        refused(operator, operator.try_to_load(folder), 409, "model.onnx", "cannot be loaded")

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"[]",
            b"{}",
            b"\xff",
            b'{"folder": 7}',
            b'{"folder": "relative"}',
            b'{"folder": "/", "x": 1}',
            b'{"folder": "/\\ud800"}',
        ],
    )
    def test_a_body_that_names_no_folder(self, operator: Operator, body: bytes) -> None:
        refused(operator, operator.ask("POST", content=body), 400, "folder")

    def test_what_a_page_in_a_browser_sends(self, operator: Operator, second: Path) -> None:
        headers = {"origin": "https://example.org"}
        refused(operator, operator.ask("POST", json={"folder": str(second)}, headers=headers), 403)
        refused(operator, operator.ask("PUT", f"/{FIRST}/set-default", headers=headers), 403)

    def test_what_there_is_not(self, operator: Operator) -> None:
        refused(operator, operator.ask("PUT", "/3.0/set-default"), 404, "3.0", FIRST)
        refused(operator, operator.ask("DELETE", "/3.0"), 404, "3.0", FIRST)
        refused(operator, operator.ask("DELETE", f"/{FIRST}"), 409, "is the default")
        refused(operator, operator.ask("PUT", f"/{FIRST}"), 405)


def _exchange_boots(folder: Path) -> None:
    """Let a version take boots for bags: its graph as it is, but for two of its outputs."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(folder / "model.onnx"))
    places = [CLASSES.index(name) for name in (HEALTH_IMAGE[1], "Bag")]
    found = 0
    for tensor_of in model.graph.initializer:
        array = numpy_helper.to_array(tensor_of).copy()
        for axis in (axis for axis, size in enumerate(array.shape) if size == len(CLASSES)):
            moved = np.moveaxis(array, axis, 0)
            moved[places] = moved[places[::-1]].copy()
            found += 1
        tensor_of.CopyFrom(numpy_helper.from_array(array, tensor_of.name))
    assert found == 2, "the last layer's weights and bias"
    onnx.save(model, str(folder / "model.onnx"))
    checksums.write(folder, checksums.read(folder))


def test_there_is_a_most(tmp_path: Path, second: Path) -> None:
    with serve_command(tmp_path, "--engine", "embedded", FASHION_MNIST_MAX_VERSIONS="2") as command:
        wait_until(lambda: command.times_ready() == 1, "ready")
        operator = Operator(command)
        operator.load(second)
        response = operator.try_to_load(named(second, tmp_path / "copy", "3.0"))
        assert response.status_code == 409
        assert "FASHION_MNIST_MAX_VERSIONS" in response.text
        operator.use("2.0")
        operator.unload(FIRST)
        operator.load(tmp_path / "copy")
        # Loaded anew under its name, it is another one.
        operator.unload("3.0")
        operator.load(tmp_path / "copy")
        assert operator.names() == ("2.0", ["2.0", "3.0"])


def test_without_the_data_set_it_takes_a_word(tmp_path: Path, second: Path, images: Images) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with serve_command(tmp_path, "--engine", "embedded", FASHION_MNIST_DATA=str(empty)) as command:
        wait_until(lambda: command.times_ready() == 1, "ready")
        operator = Operator(command)
        refused(operator, operator.try_to_load(second), 409, str(empty))
        found = operator.load(second, without_data=True)
        assert (found["health_check"], found["accuracy"], found["images"]) == ("passed", None, 0)
        assert answered_by(command, images, "2.0") == {"2.0"}


def test_only_a_key_for_administration_changes_versions(tmp_path: Path, second: Path) -> None:
    texts = {}
    with editing(tmp_path / "keys.json") as keys:
        for scope in (PREDICT, ADMIN):
            texts[scope], key = create(scope, [scope])
            keys.append(key)
    with serve_command(tmp_path, "--engine", "embedded", FASHION_MNIST_KEY_FILE=str(tmp_path / "keys.json")) as command:
        wait_until(lambda: command.times_ready() == 1, "ready")
        assert Operator(command).try_to_load(second).status_code == 401
        assert Operator(command, texts[PREDICT]).try_to_load(second).status_code == 403
        assert Operator(command, texts[PREDICT]).ask("GET").status_code == 403
        operator = Operator(command, texts[ADMIN])
        operator.load(second)
        operator.use("2.0")
        assert operator.names() == ("2.0", [FIRST, "2.0"])


def test_the_commands(operator: Operator, second: Path, model_store: Path) -> None:
    port = str(urlsplit(operator.command.url).port)

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        environment = {**os.environ, "FASHION_MNIST_PORT": port, "COLUMNS": "200"}
        return subprocess.run(
            [COMMAND, "models", *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False
        )

    done = run("load", str(second))
    assert done.returncode == 0, done.stderr
    assert "version 2.0 is loaded" in done.stdout
    assert told_accuracy(second) in done.stdout
    assert run("use", "2.0").stdout == "version 2.0 is the default\n"
    refusal = run("unload", "2.0")
    assert refusal.returncode == 1
    assert refusal.stderr == "error: version 2.0 is the default: use another one first\n"
    table = run("list").stdout
    accuracy = told_accuracy(model_store)
    for word in ("version", "engine", "state", "default", "since", "requests", "accuracy", "embedded", accuracy):
        assert word in table
    rows = json.loads(run("list", "--json").stdout)
    assert [(row["version"], row["state"], row["default"]) for row in rows] == [
        (FIRST, "ready", False),
        ("2.0", "ready", True),
    ]
    assert run("use", FIRST).returncode == 0
    assert run("unload", "2.0").stdout == "version 2.0 is unloaded\n"
    away = run("list", "--url", "http://127.0.0.1:1")
    assert away.returncode == 1
    assert "does not answer" in away.stderr


class TestTorchServe:
    """Each version is a TorchServe of its own."""

    def test_the_death_of_one_is_nobody_elses(self, tmp_path: Path, second: Path, images: Images) -> None:
        with serve_command(tmp_path) as command:
            wait_until(lambda: command.times_ready() == 1, "ready")
            operator = Operator(command)
            first = {process.pid for process in command.jvms()}
            operator.load(second)
            assert answered_by(command, images, "2.0") == {"2.0"}
            (jvm,) = (process for process in command.jvms() if process.pid not in first)
            with clients(command.url, images) as found, clients(f"{command.url}/2.0", images, 2) as others:
                others.wait_for("2.0")
                jvm.kill()
                found.wait_for(FIRST)
                wait_until(lambda: others.outcomes["503"], "a 503", 20)
                assert httpx.get(f"{base(command)}{OIP}/ready", timeout=TIMEOUT_S).status_code == 200
                others.wait_for("2.0")
            assert set(found.outcomes) == {FIRST}
            assert set(others.outcomes) == {"2.0", "503"}
            assert command.times_ready() == 1
            assert "TorchServe of version 2.0 died and is started again" in command.said()
            # Of two, the one that is told to go.
            operator.unload("2.0")
            assert {process.pid for process in command.jvms()} == first

    def test_a_signal_during_a_load_ends_everything(self, tmp_path: Path, second: Path) -> None:
        with serve_command(tmp_path) as command:
            wait_until(lambda: command.times_ready() == 1, "ready")
            operator, seen = Operator(command), set[psutil.Process]()

            def second_jvm() -> bool:
                seen.update(command.family())
                return len(command.jvms()) == 2

            with ThreadPoolExecutor(1) as pool:
                loading = pool.submit(operator.try_to_load, second)
                wait_until(second_jvm, "the second TorchServe", 30)
                assert [row["state"] for row in operator.rows()] == ["ready", "loading"]
                assert operator.try_to_load(second).status_code == 409
                assert command.end(signal.SIGTERM) == 0
                wait_until(lambda: gone(list(seen)), "the end of all processes", 10)
                with contextlib.suppress(httpx.TransportError):  # where the admin port was gone first
                    assert loading.result(TIMEOUT_S).status_code == 503


def test_with_the_oip_engine_versions_are_the_other_servers(tmp_path: Path, second: Path) -> None:
    rollout = Rollout(Settings(engine="oip"), tmp_path, [], [], lambda store, path: None)
    with pytest.raises(VersionError, match="FASHION_MNIST_OIP_VERSION"):
        rollout.load(second, without_data=True)
