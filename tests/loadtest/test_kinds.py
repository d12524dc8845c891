"""Each kind of request gets right labels from a real server, and an answer that is none is told from one."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import grpc
import httpx
import pytest

from loadtest.kinds import SINGLE, find_kind
from loadtest.requests import prepare
from loadtest.scenario import read
from tests.support.command import ServeCommand

KINDS = {kind.name: kind for name in ("smoke",) for kind, _ in read(name).mix}
PACKED = [f"{name} x 3" for name in KINDS if " x " not in name and name not in SINGLE]


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=20) as client:
        yield client


@pytest.mark.parametrize("name", [*KINDS, *PACKED])
def test_a_kind_gets_its_labels(embedded: ServeCommand, client: httpx.Client, name: str) -> None:
    for request in prepare([find_kind(name)])[:5]:
        sent, address = request.sent, urlsplit(embedded.url)
        if request.kind.grpc:
            with grpc.insecure_channel(f"127.0.0.1:{embedded.state().grpc_port}") as channel:
                answer: bytes = channel.unary_unary(sent.path)(sent.body, timeout=20)
        else:
            response = client.post(
                f"{address.scheme}://{address.netloc}{sent.path}", content=sent.body, headers=dict(sent.headers)
            )
            assert response.status_code == 200, response.text
            answer = response.content
        assert len(request.labels) == request.kind.images
        assert request.kind.read(answer) == request.labels


@pytest.mark.parametrize("name", ["png", "binary", "v1", "oip", "grpc"])
@pytest.mark.parametrize("answer", [b"", b"{}", b"[]", b"\xff", b'{"predictions": [1]}', b'{"outputs": []}'])
def test_no_answer_has_no_labels(name: str, answer: bytes) -> None:
    try:
        labels = find_kind(name).read(answer)
    except (ValueError, KeyError, TypeError, IndexError):
        return
    assert labels == []
