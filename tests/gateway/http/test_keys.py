"""API keys: who carries one gets in, nobody else; a change counts at once, and a broken file changes nothing."""

import dataclasses
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import grpc
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fashion_mnist.errors import FashionMNISTError, Forbidden, Unauthorized, UsageError
from fashion_mnist.settings import Settings
from fashion_mnist.system import atomic
from gateway.http.keys import ADMIN, PREDICT, Keyring, editing, read, required
from gateway.protocols import inference_pb2 as pb
from tests.support.command import COMMAND, ServeCommand, serve_command, wait_until
from tests.support.grpc_calls import Stub, tensor
from tests.support.grpc_frames import DATA, Frame, head
from tests.support.grpc_frames import connected as calling
from tests.support.http import connected, read_answer, read_answers, request
from tests.support.keys import add_key

IMAGE = bytes(784)
INFER = pb.ModelInferRequest(
    model_name="fashion_mnist", inputs=[tensor("UINT8", [1, 28, 28])], raw_input_contents=[IMAGE]
)


def refusal(keyring: Keyring, text: str, scope: str = PREDICT) -> FashionMNISTError | None:
    return keyring.refusal(f"Bearer {text}", scope)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


class TestKeyring:
    def test_a_key_opens_what_it_is_for(self, path: Path) -> None:
        text, _ = add_key(path, PREDICT)
        keyring = Keyring(path)
        assert refusal(keyring, text) is None
        assert keyring.refusal(f"bearer {text}", PREDICT) is None
        assert isinstance(keyring.refusal(f"bearer   {text} ", PREDICT), Unauthorized)
        assert isinstance(refusal(keyring, text, ADMIN), Forbidden)

    def test_an_expired_key_opens_nothing(self, path: Path) -> None:
        text, key = add_key(path, expires_in_s=-2)
        error = refusal(Keyring(path), text)
        assert isinstance(error, Unauthorized)
        assert str(key.expires) in error.message

    def test_the_file_holds_no_key(self, path: Path) -> None:
        text, _ = add_key(path)
        assert text[12:] not in path.read_text()

    @given(st.text(max_size=100) | st.binary(max_size=100).map(lambda raw: "Bearer " + raw.decode("latin-1")))
    def test_nothing_else_opens_anything(self, tmp_path_factory: pytest.TempPathFactory, header: str) -> None:
        keyring = Keyring(tmp_path_factory.getbasetemp() / "none.json")
        assert isinstance(keyring.refusal(header, PREDICT), Unauthorized)

    def test_nor_does_what_resembles_a_key(self, path: Path) -> None:
        text, key = add_key(path)
        keyring = Keyring(path)
        for other in (text[:-1], text + "A", text.upper(), key.id, key.sha256, f"{key.id}_{key.sha256}", ""):
            assert isinstance(refusal(keyring, other), Unauthorized), other
        assert isinstance(keyring.refusal(f"Basic {text}", PREDICT), Unauthorized)

    def test_a_change_counts_when_it_is_looked_for(self, path: Path) -> None:
        first, key = add_key(path)
        keyring = Keyring(path)
        second, _ = add_key(path)
        assert refusal(keyring, second)
        keyring.refresh()
        assert refusal(keyring, second) is None
        with editing(path) as keys:
            keys.remove(key)
        keyring.refresh()
        assert refusal(keyring, first)
        assert refusal(keyring, second) is None

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"keys": 1}', b'{"keys": [{}]}', None])
    def test_a_broken_file_changes_nothing_and_is_said(
        self, path: Path, content: bytes | None, caplog: pytest.LogCaptureFixture
    ) -> None:
        text, _ = add_key(path)
        keyring = Keyring(path)
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        for _ in range(2):
            keyring.refresh()
        assert refusal(keyring, text) is None
        (record,) = caplog.records
        assert record.levelname == "ERROR"
        assert str(path) in vars(record)["reason"]
        # Whole again, with another key.
        path.unlink(missing_ok=True)
        other, _ = add_key(path)
        keyring.refresh()
        assert refusal(keyring, other) is None
        assert refusal(keyring, text)

    def test_a_file_that_can_be_read_again_is(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        text, key = add_key(path)
        keyring = Keyring(path)
        with editing(path) as keys:
            keys.remove(key)
        with monkeypatch.context() as patch:
            patch.setattr(atomic, "read_regular", lambda _: _raise(PermissionError(13, "Permission denied")))
            keyring.refresh()
        assert refusal(keyring, text) is None
        # Nothing about the file is new, but that it can be read.
        keyring.refresh()
        assert refusal(keyring, text)


def _raise(error: Exception) -> NoReturn:
    raise error


@pytest.mark.parametrize(
    "change",
    [
        {"id": "fm_1"},
        {"id": 7},
        {"sha256": "0" * 63},
        {"scopes": []},
        {"scopes": ["everything"]},
        {"scopes": "predict"},
        {"scopes": [[]]},
        {"expires": "tomorrow"},
        {"expires": 7},
        {"hint": "none"},
    ],
    ids=str,
)
def test_a_file_with_one_bad_key_is_refused(path: Path, change: dict[str, object]) -> None:
    _, key = add_key(path)
    path.write_text(json.dumps({"keys": [dataclasses.asdict(key) | change]}))
    with pytest.raises(UsageError, match=r"keys\.json"):
        read(path)
    # And not made worse by an editor.
    before = path.read_bytes()
    with pytest.raises(UsageError):
        add_key(path)
    assert path.read_bytes() == before


def test_two_keys_of_one_id_are_refused(path: Path) -> None:
    _, key = add_key(path)
    path.write_text(json.dumps({"keys": [dataclasses.asdict(key)] * 2}))
    with pytest.raises(UsageError, match="two keys"):
        read(path)


class TestWhoMustShowAKey:
    @pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
    def test_nobody_on_loopback(self, host: str) -> None:
        assert not required(Settings(host=host))

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "", "no.such.host.invalid"])
    def test_elsewhere_somebody_has_to_decide(self, host: str, path: Path) -> None:
        with pytest.raises(UsageError, match="FASHION_MNIST_AUTH=off"):
            required(Settings(host=host))
        with pytest.raises(UsageError, match="admin_host"):
            required(Settings(admin_host=host))
        assert not required(Settings(host=host, auth="off"))
        add_key(path)
        assert required(Settings(host=host, key_file=str(path)))

    def test_client_certificates_say_who_they_are(self) -> None:
        assert not required(Settings(host="0.0.0.0", admin_host="0.0.0.0", tls_client_ca="clients.pem"))

    def test_who_names_a_file_means_it(self, path: Path) -> None:
        with pytest.raises(UsageError, match="keys create"):
            required(Settings(key_file=str(path)))
        add_key(path)
        assert required(Settings(key_file=str(path)))
        with pytest.raises(UsageError, match="auth is off"):
            required(Settings(key_file=str(path), auth="off"))


def run(*arguments: str, file: Path, status: int = 0) -> "subprocess.CompletedProcess[str]":
    command = [COMMAND, "keys", *arguments, "--file", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status, done.stderr
    return done


def test_the_command_makes_lists_and_revokes(path: Path) -> None:
    text = run("create", "--name", "[grafana]", "--scope", "admin", "--days", "3", file=path).stdout.strip()
    (key,) = read(path)
    assert (key.name, key.scopes) == ("[grafana]", (ADMIN,))
    assert 2.9 < (key.expires_s - time.time()) / 86400 <= 3
    assert refusal(Keyring(path), text, ADMIN) is None
    listed = run("list", file=path).stdout
    assert key.id in listed
    assert "grafana" in listed
    assert text not in listed
    assert "has no key" in run("revoke", "fm_00000000", file=path, status=2).stderr
    run("revoke", text, file=path)
    assert read(path) == []
    assert "choose from predict, admin" in run("create", "--name", "a", "--scope", "all", file=path, status=2).stderr
    assert "does not exist" in run("list", file=path.with_name("none"), status=2).stderr


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "keys.json"


@pytest.fixture(scope="module")
def keys(key_file: Path) -> dict[str, str]:
    """A key for each scope."""
    return {scope: add_key(key_file, scope)[0] for scope in (PREDICT, ADMIN)}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, key_file: Path, keys: dict[str, str]) -> Iterator[ServeCommand]:
    """A server that asks for keys."""
    environment = {"FASHION_MNIST_KEY_FILE": str(key_file)}
    with serve_command(tmp_path_factory.mktemp("asks"), "--engine", "embedded", **environment) as command:
        wait_until(lambda: command.times_ready() == 1 or command.process.poll() is not None, "ready")
        yield command


def bearer(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


def status(server: ServeCommand, text: str) -> int:
    return httpx.post(server.url, content=IMAGE, headers=bearer(text), timeout=10).status_code


class TestServer:
    def test_a_key_is_needed(self, server: ServeCommand, keys: dict[str, str]) -> None:
        assert status(server, keys[PREDICT]) == 200
        response = httpx.post(server.url, content=IMAGE, timeout=10)
        assert response.status_code == 401
        assert response.json()["error"]["code"] == "unauthorized"
        assert response.headers["www-authenticate"] == 'Bearer realm="fashion_mnist"'
        assert status(server, keys[PREDICT][:-1]) == 401

    @pytest.mark.parametrize(
        ("before", "good"), [("bearer ", True), ("BEARER ", True), ("Bearer  ", False), ("", False)]
    )
    def test_a_key_has_one_spelling(self, server: ServeCommand, keys: dict[str, str], before: str, good: bool) -> None:
        sent = httpx.post(server.url, content=IMAGE, headers={"authorization": f"{before}{keys[PREDICT]}"}, timeout=10)
        assert sent.status_code == (200 if good else 401)

    def test_the_right_key_is_needed(self, server: ServeCommand, keys: dict[str, str]) -> None:
        response = httpx.post(server.url, content=IMAGE, headers=bearer(keys[ADMIN]), timeout=10)
        assert response.status_code == 403
        assert response.json()["error"]["code"] == "forbidden"
        assert 'error="insufficient_scope"' in response.headers["www-authenticate"]

    def test_what_is_not_there_is_told_to_those_with_a_key(self, server: ServeCommand, keys: dict[str, str]) -> None:
        url = server.url.replace("/predictions/fashion_mnist", "/secret")
        assert httpx.get(url, timeout=10).status_code == 401
        assert httpx.get(url, headers=bearer(keys[PREDICT]), timeout=10).status_code == 404

    @pytest.mark.parametrize("page", ["/health/live", "/health/ready", "/health/startup", "/ping"])
    def test_health_is_everybodys(self, server: ServeCommand, page: str) -> None:
        url = server.url.replace("/predictions/fashion_mnist", page)
        assert httpx.get(url, timeout=10).status_code == 200

    def test_a_body_is_not_waited_for(self, server: ServeCommand) -> None:
        with connected(server.url) as connection:
            connection.sendall(request(IMAGE)[:-700])
            (answer,) = read_answers(connection)
        assert answer.status == 401
        assert answer.headers["connection"] == "close"

    def test_earlier_requests_of_the_connection_are_answered(self, server: ServeCommand, keys: dict[str, str]) -> None:
        good = request(IMAGE, f"Authorization: Bearer {keys[PREDICT]}")
        with connected(server.url) as connection:
            connection.sendall(good + good + request(IMAGE) + good)
            assert [answer.status for answer in read_answers(connection)] == [200, 200, 401]

    def test_a_connection_that_is_kept_loses_what_its_key_lost(self, server: ServeCommand, key_file: Path) -> None:
        """Also where each request is the same bytes as one that was let in."""
        text, key = add_key(key_file)
        wait_until(lambda: status(server, text) == 200, "the new key", 10)
        again = request(IMAGE, f"Authorization: Bearer {text}")
        with connected(server.url) as connection:
            for _ in range(3):
                connection.sendall(again)
                assert read_answer(connection).status == 200
            with editing(key_file) as known:
                known.remove(key)
            wait_until(lambda: status(server, text) == 401, "its end", 10)
            connection.sendall(again)
            (answer,) = read_answers(connection)
        assert answer.status == 401
        assert answer.headers["www-authenticate"]
        assert answer.headers["connection"] == "close"

    @pytest.mark.parametrize(
        ("method", "path", "open"),
        [
            ("POST", "/v1/models/fashion_mnist:predict", False),
            ("POST", "/v2/models/fashion_mnist/infer", False),
            ("GET", "/v1/models", False),
            ("GET", "/v2", False),
            ("GET", "/v2/models/fashion_mnist", False),
            ("POST", "/explain", False),
            ("GET", "/network.json", False),
            ("GET", "/mistakes.json", False),
            ("GET", "/mistakes.webp", False),
            ("GET", "/openapi.json", True),
            ("GET", "/docs", True),
            ("GET", "/", True),
            ("GET", "/page/main.js", True),
            ("GET", "/page/config.json", True),
            ("GET", "/status.json", True),
            ("GET", "/v2/health/live", True),
            ("GET", "/v2/health/ready", True),
        ],
    )
    def test_every_protocol_asks(
        self, server: ServeCommand, keys: dict[str, str], method: str, path: str, open: bool
    ) -> None:
        url = server.url.replace("/predictions/fashion_mnist", path)
        without = httpx.request(method, url, timeout=10)
        assert without.status_code == (200 if open else 401)
        if path.startswith("/v") and not open:
            assert "Authorization" in without.json()["error"]  # in the protocol's own shape
        assert httpx.request(method, url, headers=bearer(keys[PREDICT]), timeout=10).status_code in (200, 400)

    def test_grpc_asks_too(self, server: ServeCommand, keys: dict[str, str]) -> None:
        stub = Stub(server)
        with stub.channel:
            assert stub("ServerReady", pb.ServerReadyRequest()).ready
            for name, ask in (("ServerMetadata", pb.ServerMetadataRequest()), ("ModelInfer", INFER)):
                for metadata, code in (
                    ([], grpc.StatusCode.UNAUTHENTICATED),
                    ([("authorization", f"Bearer {keys[PREDICT][:-1]}")], grpc.StatusCode.UNAUTHENTICATED),
                    ([("authorization", f"Bearer {keys[ADMIN]}")], grpc.StatusCode.PERMISSION_DENIED),
                ):
                    with pytest.raises(grpc.RpcError) as refused:
                        stub(name, ask, metadata=metadata)
                    assert refused.value.code() == code
                good = [("authorization", f"Bearer {keys[PREDICT]}")]
                assert stub(name, ask, metadata=good).SerializeToString()

    def test_grpc_asks_before_a_message_is_received(self, server: ServeCommand) -> None:
        """Who may not ask takes no room from those who may."""
        with calling(server.state().grpc_port) as client:
            client.send(head(1), Frame(DATA, 0, 1, b"\0\0\1\0\0half of it"))
            assert client.status() == 16

    def test_grpc_notices_a_revoked_key(self, server: ServeCommand, key_file: Path) -> None:
        text, key = add_key(key_file)
        wait_until(lambda: status(server, text) == 200, "the new key", 10)
        stub = Stub(server)
        with stub.channel:
            metadata = [("authorization", f"Bearer {text}")]
            for _ in range(3):
                assert stub("ModelInfer", INFER, metadata=metadata).outputs
            with editing(key_file) as known:
                known.remove(key)
            wait_until(lambda: status(server, text) == 401, "its end", 10)
            with pytest.raises(grpc.RpcError) as refused:
                stub("ModelInfer", INFER, metadata=metadata)
            assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED

    def test_the_admin_port_asks_too(self, server: ServeCommand, keys: dict[str, str]) -> None:
        url = f"http://127.0.0.1:{server.state().admin_port}/metrics"
        response = httpx.get(url, timeout=10)
        assert response.status_code == 401
        assert response.json()["error"]["code"] == "unauthorized"
        assert response.headers["www-authenticate"]
        assert httpx.get(url, headers=bearer(keys[PREDICT]), timeout=10).status_code == 403
        response = httpx.get(url, headers=bearer(keys[ADMIN]), timeout=10)
        assert response.status_code == 200
        assert 'serving_requests_total{code="forbidden"}' in response.text

    def test_a_key_made_and_revoked_while_it_runs(self, server: ServeCommand, key_file: Path) -> None:
        text = run("create", "--name", "late", file=key_file).stdout.strip()
        wait_until(lambda: status(server, text) == 200, "the new key", 10)
        run("revoke", text, file=key_file)
        wait_until(lambda: status(server, text) == 401, "its end", 10)

    def test_a_broken_file_keeps_the_keys_and_is_logged(
        self, server: ServeCommand, key_file: Path, keys: dict[str, str]
    ) -> None:
        whole = key_file.read_bytes()
        atomic.write_bytes(key_file, b"{")
        try:
            wait_until(lambda: "unusable key file: the previous keys stay" in server.said(), "the log's line", 10)
            assert status(server, keys[PREDICT]) == 200
        finally:
            atomic.write_bytes(key_file, whole)

    def test_its_user_needs_none_to_ask_how_it_is(self, server: ServeCommand) -> None:
        port = httpx.URL(server.url).port
        done = subprocess.run(
            [COMMAND, "status", "--port", str(port)], capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0, done.stderr
        (private_socket,) = map(Path, server.state().private_sockets)
        assert private_socket.is_socket()
        assert private_socket.parent.stat().st_mode & 0o077 == 0


def test_it_does_not_start_where_others_reach_it_without_a_word(tmp_path: Path) -> None:
    with serve_command(tmp_path, "--engine", "embedded", "--host", "0.0.0.0") as command:
        assert command.process.wait(30) == 2
        assert "FASHION_MNIST_KEY_FILE" in command.said()
    with serve_command(tmp_path, "--engine", "embedded", "--host", "0.0.0.0", FASHION_MNIST_AUTH="off") as command:
        wait_until(lambda: command.times_ready() == 1 or command.process.poll() is not None, "ready")
        assert command.end() == 0
