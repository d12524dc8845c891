"""TLS: clients see the certificate, a new one when it changes; and where it is asked for, they must show their own."""

import asyncio
import contextlib
import select
import socket
import ssl
import subprocess
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import httpx
import numpy as np
import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from fashion_mnist.classes import CLASSES
from fashion_mnist.client.http import AsyncClient, Client
from fashion_mnist.data.splits import Dataset
from fashion_mnist.engines import open_engine
from fashion_mnist.errors import Unavailable, UsageError
from fashion_mnist.settings import Settings
from gateway.http.tls import open_tls
from gateway.protocols import inference_pb2 as pb
from tests.support import http
from tests.support.command import COMMAND, ServeCommand, serve_command, wait_until
from tests.support.grpc_calls import SERVICE, tensor
from tests.support.grpc_frames import PREFACE, SETTINGS, Frame
from tests.support.load import load

IMAGE = np.zeros((28, 28), np.uint8)
INFER = pb.ModelInferRequest(
    model_name="fashion_mnist", inputs=[tensor("UINT8", [1, 28, 28])], raw_input_contents=[IMAGE.tobytes()]
)


@dataclass
class Files:
    """A server's PEM files, and the authority that vouches for it and its clients."""

    certificate: Path
    key: Path
    client_ca: Path
    ca: trustme.CA

    def issue(self) -> bytes:
        """Replace certificate and key by new ones; the certificate in DER."""
        issued = self.ca.issue_cert("localhost", "127.0.0.1")
        self.key.write_bytes(issued.private_key_pem.bytes())
        self.certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        return ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())

    def settings(self, *, clients: bool = False) -> dict[str, str]:
        found = {"tls_certificate": str(self.certificate), "tls_key": str(self.key)}
        return found | ({"tls_client_ca": str(self.client_ca)} if clients else {})

    def environment(self, *, clients: bool = False) -> dict[str, str]:
        return {f"FASHION_MNIST_{name.upper()}": value for name, value in self.settings(clients=clients).items()}

    def trusting(self, client: trustme.CA | None = None) -> ssl.SSLContext:
        """A client's context, with a certificate by that authority if there is one."""
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        if client:
            client.issue_cert("a.client").configure_cert(context)
        return context


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("tls")
    made = Files(folder / "certificate.pem", folder / "key.pem", folder / "clients.pem", trustme.CA())
    made.issue()
    made.client_ca.write_bytes(made.ca.cert_pem.bytes())
    return made


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, files: Files) -> Iterator[ServeCommand]:
    """A server that speaks TLS and asks clients for certificates."""
    environment = files.environment(clients=True) | {"FASHION_MNIST_RECEIVE_TIMEOUT_S": "1"}
    with serve_command(tmp_path_factory.mktemp("server"), "--engine", "embedded", **environment) as command:
        wait_until(lambda: command.times_ready() == 1 or command.process.poll() is not None, "ready")
        yield command


@contextmanager
def connected(command: ServeCommand, context: ssl.SSLContext, port: int = 0) -> Iterator[ssl.SSLSocket]:
    address = ("127.0.0.1", port or urlsplit(command.url).port or 0)
    with (
        socket.create_connection(address, 10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        yield connection


def shown(command: ServeCommand, context: ssl.SSLContext, port: int = 0) -> bytes | None:
    """The certificate that it shows."""
    with connected(command, context, port) as connection:
        return connection.getpeercert(binary_form=True)


def resumed(command: ServeCommand, context: ssl.SSLContext, session: ssl.SSLSession | None) -> ssl.SSLSession | None:
    """Ask over a connection that resumes a session, if there is one; its own. Raises what the client sees."""
    with (
        socket.create_connection(("127.0.0.1", urlsplit(command.url).port or 0), 10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1", session=session) as connection,
    ):
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = connection.recv(100)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise ConnectionError(f"no answer but {answer!r}")
        return connection.session


def ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def lets_in(command: ServeCommand, context: ssl.SSLContext) -> bool:
    with Client(command.url, tls=context, retry_s=0) as client:
        return client.ready()


def ask(channel: grpc.Channel, image: Any) -> Any:
    """A prediction by gRPC."""
    call = channel.unary_unary(
        SERVICE + "ModelInfer", pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString
    )
    return call(image, timeout=10)


class TestServer:
    def test_both_clients_are_answered(self, server: ServeCommand, files: Files) -> None:
        assert server.url.startswith("https://127.0.0.1:")
        tls = files.trusting(files.ca)
        images = np.random.default_rng(0).integers(0, 256, (3000, 28, 28), np.uint8)

        async def ask() -> np.ndarray:
            async with AsyncClient(server.url, tls=tls) as client:
                return await client.predict(images)

        with Client(server.url, tls=tls) as client:
            np.testing.assert_allclose(client.predict(images), asyncio.run(ask()), rtol=1e-4, atol=1e-7)

    def test_who_has_no_certificate_or_a_strangers_is_not(self, server: ServeCommand, files: Files) -> None:
        for context in (files.trusting(), files.trusting(trustme.CA())):
            with Client(server.url, tls=context, retry_s=0) as client, pytest.raises(Unavailable):
                client.predict(IMAGE)
        assert lets_in(server, files.trusting(files.ca))

    def test_nor_who_speaks_plain_http(self, server: ServeCommand, files: Files) -> None:
        with http.connected(server.url) as connection:
            connection.sendall(http.request(b"", method="GET", path="/health/live"))
            assert not connection.recv(100).startswith(b"HTTP/1.1 200")
        assert lets_in(server, files.trusting(files.ca))

    def test_who_does_not_finish_the_handshake_is_cut_off(self, server: ServeCommand) -> None:
        with http.connected(server.url) as connection:
            connection.sendall(b"\x16\x03\x01")
            assert connection.recv(100) == b""

    def test_a_refused_client_gets_to_read_why(self, server: ServeCommand, files: Files) -> None:
        with connected(server, files.trusting(files.ca)) as connection:
            connection.sendall(http.request(bytes(1))[:-1].replace(b"Content-Length: 1", b"Content-Length: 99999999"))
            assert http.read_answer(connection).status == 413

    def test_the_admin_port_does_the_same(self, server: ServeCommand, files: Files) -> None:
        url = f"https://127.0.0.1:{server.state().admin_port}/metrics"
        response = httpx.get(url, verify=files.trusting(files.ca), timeout=10)
        assert "serving_requests_total" in response.text
        with pytest.raises(httpx.TransportError):
            httpx.get(url, verify=files.trusting(), timeout=10)

    def test_grpc_does_the_same(self, server: ServeCommand, files: Files) -> None:
        mine = files.ca.issue_cert("a.client")
        chain = b"".join(blob.bytes() for blob in mine.cert_chain_pems)
        ours = {"root_certificates": files.ca.cert_pem.bytes()}
        theirs = {"private_key": mine.private_key_pem.bytes(), "certificate_chain": chain}
        address = f"127.0.0.1:{server.state().grpc_port}"
        with grpc.secure_channel(address, grpc.ssl_channel_credentials(**ours, **theirs)) as channel:
            assert ask(channel, INFER).outputs
        for credentials in (grpc.ssl_channel_credentials(**ours), grpc.ssl_channel_credentials(**theirs)):
            with grpc.secure_channel(address, credentials) as channel, pytest.raises(grpc.RpcError) as refused:
                ask(channel, INFER)
            assert refused.value.code() == grpc.StatusCode.UNAVAILABLE

    def test_another_authority_counts_for_grpc_too_also_in_a_session_of_before(
        self, server: ServeCommand, files: Files
    ) -> None:
        def grpc_session(session: ssl.SSLSession | None, context: ssl.SSLContext) -> ssl.SSLSession | None:
            address = ("127.0.0.1", server.state().grpc_port)
            with (
                socket.create_connection(address, 10) as plain,
                context.wrap_socket(plain, server_hostname="127.0.0.1", session=session) as connection,
            ):
                connection.sendall(PREFACE + Frame(SETTINGS, 0, 0, b"").to_bytes())
                if not connection.recv(100):
                    raise ConnectionError("no answer")
                return connection.session

        first, other = files.trusting(files.ca), trustme.CA()
        first.maximum_version = ssl.TLSVersion.TLSv1_2  # whose sessions Python resumes
        first.set_alpn_protocols(["h2"])
        session = grpc_session(None, first)
        files.client_ca.write_bytes(other.cert_pem.bytes())
        try:
            second = files.trusting(other)
            second.set_alpn_protocols(["h2"])
            wait_until(lambda: _succeeds(lambda: grpc_session(None, second)), "the other authority", 10)
            with pytest.raises((ssl.SSLError, ConnectionError)):
                grpc_session(session, first)
        finally:
            files.client_ca.write_bytes(files.ca.cert_pem.bytes())
        wait_until(lambda: _succeeds(lambda: grpc_session(None, first)), "the first authority", 10)

    def test_status_needs_none_of_it(self, server: ServeCommand) -> None:
        command = [COMMAND, "status", "--port", str(urlsplit(server.url).port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stdout
        assert "https://" in done.stdout

    def test_a_new_certificate_is_shown_and_old_connections_stay(self, server: ServeCommand, files: Files) -> None:
        tls = files.trusting(files.ca)
        with Client(server.url, tls=tls, retry_s=0) as client:
            client.predict(IMAGE)
            new = files.issue()
            wait_until(lambda: shown(server, tls) == new, "the new certificate", 10)
            wait_until(lambda: shown(server, tls, server.state().admin_port) == new, "on the admin port", 10)
            wait_until(lambda: shown(server, tls, server.state().grpc_port) == new, "on the port of gRPC", 10)
            client.predict(IMAGE)

    def test_a_broken_one_changes_nothing_and_is_said(self, server: ServeCommand, files: Files) -> None:
        tls, before = files.trusting(files.ca), files.certificate.read_bytes()
        old = shown(server, tls)
        files.certificate.write_bytes(b"nothing")
        try:
            wait_until(lambda: "unusable certificate: the previous one stays" in server.said(), "the log's line", 10)
            assert shown(server, tls) == old
        finally:
            files.certificate.write_bytes(before)

    def test_who_does_not_believe_it_says_so_at_once(self, server: ServeCommand) -> None:
        with (
            Client(server.url, tls=ssl.create_default_context(), retry_s=3600) as client,
            pytest.raises(Unavailable, match="(?i)certificate"),
        ):
            client.predict(IMAGE)

    def test_who_resumes_a_session_gets_in_no_longer_than_others(self, server: ServeCommand, files: Files) -> None:
        context = files.trusting(files.ca)
        session = resumed(server, context, None)
        other = trustme.CA()
        files.client_ca.write_bytes(other.cert_pem.bytes())
        try:
            wait_until(lambda: lets_in(server, files.trusting(other)), "the other authority", 10)
            with pytest.raises((ssl.SSLError, ConnectionError)):
                resumed(server, context, session)
        finally:
            files.client_ca.write_bytes(files.ca.cert_pem.bytes())
        wait_until(lambda: lets_in(server, files.trusting(files.ca)), "the first authority", 10)

    def test_with_certificates_of_clients_it_is_tls_1_3(self, server: ServeCommand, files: Files) -> None:
        context = files.trusting(files.ca)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises((ssl.SSLError, ConnectionError)):
            resumed(server, context, None)

    def test_another_authority_for_clients_counts_too(self, server: ServeCommand, files: Files) -> None:
        other = trustme.CA()
        files.client_ca.write_bytes(other.cert_pem.bytes())
        try:
            wait_until(lambda: lets_in(server, files.trusting(other)), "the other authority", 10)
            assert not lets_in(server, files.trusting(files.ca))
        finally:
            files.client_ca.write_bytes(files.ca.cert_pem.bytes())
        wait_until(lambda: lets_in(server, files.trusting(files.ca)), "the first authority", 10)


@pytest.mark.parametrize("over_grpc", [False, True])
def test_who_does_not_shake_hands_counts_as_a_connection(tmp_path: Path, files: Files, over_grpc: bool) -> None:
    environment = {**files.environment(), "FASHION_MNIST_MAX_CONNECTIONS": "20"}
    with serve_command(tmp_path, "--engine", "embedded", **environment) as command, contextlib.ExitStack() as open:
        wait_until(lambda: command.times_ready() == 1 or command.process.poll() is not None, "ready")
        port = command.state().grpc_port if over_grpc else urlsplit(command.url).port or 0
        silent = [open.enter_context(socket.create_connection(("127.0.0.1", port), 10)) for _ in range(30)]
        wait_until(lambda: len(select.select(silent, [], [], 0)[0]) == 10, "those beyond the limit are closed", 8)
        closed = select.select(silent, [], [], 0)[0]
        assert all(ended(connection) for connection in closed)
        (next(connection for connection in silent if connection not in closed)).close()
        wait_until(lambda: lets_in(command, files.trusting()), "room", 8)


def test_no_request_is_lost_when_it_drains(
    tmp_path: Path, files: Files, dataset: Dataset, model_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(files.client_ca))  # as one does for curl, httpx and `predict`
    images = dataset.test.images[:500]
    labels = [CLASSES[index] for index in open_engine(model_store, "onnx", "cpu").predict(images).argmax(1)]
    with serve_command(tmp_path, "--engine", "embedded", **files.environment()) as command:
        wait_until(lambda: command.times_ready() == 1 or command.process.poll() is not None, "ready")
        done = subprocess.run(
            [COMMAND, "predict", str(model_store / "samples"), "--csv", "--url", command.url],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert len(done.stdout.splitlines()) == 11, done.stderr
        with load(command.url, images, labels) as found:
            found.wait_for(100)
            assert command.end() == 0
            wait_until(lambda: found.outcomes["refused"] > 0, "a closed port", 10)
    assert set(found.outcomes) == {"right", "refused"}


def _succeeds(ask: Callable[[], object]) -> bool:
    try:
        ask()
    except OSError:  # of TLS too
        return False
    return True


def test_every_port_takes_modern_ciphers_alone(tmp_path: Path, files: Files) -> None:
    with serve_command(tmp_path, "--engine", "embedded", **files.environment()) as command:
        wait_until(lambda: command.times_ready() == 1 or command.process.poll() is not None, "ready")
        for port in (urlsplit(command.url).port or 0, command.state().admin_port, command.state().grpc_port):
            for version, ciphers, allowed in (
                (ssl.TLSVersion.TLSv1_3, "ALL", True),
                (ssl.TLSVersion.TLSv1_2, "ECDHE+AESGCM", True),
                (ssl.TLSVersion.TLSv1_2, "ECDHE+CHACHA20", True),
                (ssl.TLSVersion.TLSv1_2, "ECDHE+AES:!AESGCM:!AESCCM", False),  # CBC
                (ssl.TLSVersion.TLSv1_2, "kRSA", False),  # without forward secrecy
                (ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0", False),
            ):
                context = files.trusting()
                context.set_alpn_protocols(["h2", "http/1.1"])
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", DeprecationWarning)  # of old versions, which we mean
                    context.minimum_version = context.maximum_version = version
                context.set_ciphers(ciphers)
                found = _succeeds(lambda port=port, context=context: shown(command, context, port))  # type: ignore[misc]
                assert found == allowed, (port, version, ciphers)


def test_http_2_is_a_proxys(tmp_path: Path, files: Files) -> None:
    with serve_command(tmp_path, "--engine", "embedded", **files.environment()) as command:
        wait_until(lambda: command.times_ready() == 1 or command.process.poll() is not None, "ready")
        context = files.trusting()
        context.set_alpn_protocols(["h2", "http/1.1"])
        with connected(command, context) as connection:
            assert connection.selected_alpn_protocol() == "http/1.1"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tls_key": ""}, "set both"),
        ({"tls_certificate": ""}, "set both"),
        ({"tls_certificate": "", "tls_key": ""}, "requires TLS"),
        ({"tls_certificate": "/none.pem"}, "PEM files"),
        ({"tls_key": "other"}, "PEM files"),
        ({"tls_key": "locked"}, "without a password"),
        ({"tls_client_ca": "/none.pem"}, "has no certificates"),
        ({"tls_client_ca": "other"}, "has no certificates"),
    ],
    ids=str,
)
def test_what_cannot_be_used_is_said(files: Files, tmp_path: Path, change: dict[str, str], said: str) -> None:
    other, locked = tmp_path / "other", tmp_path / "locked"
    other.write_bytes(trustme.CA().issue_cert("localhost").private_key_pem.bytes())
    key = load_pem_private_key(files.key.read_bytes(), None)
    locked.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))
    paths = {"other": str(other), "locked": str(locked)}
    with pytest.raises(UsageError, match=said):
        open_tls(Settings.from_mapping(files.settings(clients=True) | {k: paths.get(v, v) for k, v in change.items()}))


def test_without_a_certificate_there_is_no_tls() -> None:
    assert open_tls(Settings()) is None
