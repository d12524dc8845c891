"""RFC 9112 where the parser leaves it to the server: Host, transfer codings, versions, forms of the target."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http.rules import normalised
from tests.support.command import ServeCommand
from tests.support.http import Answer, connected, read_answers

MALFORMED = {
    "no Host": b"GET /health/live HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET /health/live HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "an empty Host and another": b"GET /health/live HTTP/1.1\r\nHost:\r\nHost: a\r\n\r\n",
    "a Host with a path": b"GET /health/live HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "a Host with a user": b"GET /health/live HTTP/1.1\r\nHost: a@b\r\n\r\n",
    "a Host with a port of letters": b"GET /health/live HTTP/1.1\r\nHost: a:b\r\n\r\n",
    "two keys": b"GET /health/live HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n",
    "two types": b"POST /predictions/fashion_mnist HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\n"
    b"Content-Type: application/json\r\nContent-Length: 0\r\n\r\n",
    "a coding before chunked": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a coding before chunked, in two lines": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/0.9": b"GET /health/live\r\n\r\n",
}
WELL_FORMED = {
    "HTTP/1.0 without a Host": b"GET /health/live HTTP/1.0\r\n\r\n",
    "an empty Host": b"GET /health/live HTTP/1.1\r\nHost:\r\n\r\n",
    "an IPv6 Host": b"GET /health/live HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n",
    "the absolute form": b"GET http://a:80/health/live HTTP/1.1\r\nHost: a\r\n\r\n",
    "the absolute form in capitals": b"GET HTTP://A/health/live HTTP/1.1\r\nHost: a\r\n\r\n",
    "escaped letters": b"GET /%68ealth/liv%65 HTTP/1.1\r\nHost: a\r\n\r\n",
    "two Accepts": b"GET /health/live HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\nAccept: */*\r\n\r\n",
}


def answers(command: ServeCommand, data: bytes) -> list[Answer]:
    """What comes for these bytes on a connection that the server closes, at the latest behind a last request."""
    with connected(command.url) as connection:
        connection.sendall(data + b"GET /last HTTP/1.0\r\n\r\n")
        return read_answers(connection)


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_malformed_request_is_refused_and_ends_its_connection(embedded: ServeCommand, data: bytes) -> None:
    (answer,) = answers(embedded, data)
    assert answer.status == 400
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("data", WELL_FORMED.values(), ids=WELL_FORMED)
def test_well_formed_request_is_answered(embedded: ServeCommand, data: bytes) -> None:
    assert answers(embedded, data)[0].status == 200


@pytest.mark.parametrize("path", ["/v1/models/fashion%5Fmnist%3Apredict", "/v1/models/%66ashion_mnist:predict"])
def test_escaped_path_is_the_same_path(embedded: ServeCommand, path: str) -> None:
    body = json.dumps({"instances": [[[0] * 28] * 28]}).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    assert answers(embedded, head + body)[0].status == 200


@given(st.lists(st.sampled_from([b"a", b"/", b"%41", b"%7e", b"%2F", b"%25", b"?", b"%3f", b"%80"])).map(b"".join))
def test_normalising_a_target_twice_changes_nothing_more(target: bytes) -> None:
    once = normalised(b"/" + target)
    assert normalised(once) == once


@given(st.text(st.characters(codec="ascii", exclude_characters="%?#/\x7f", min_codepoint=0x21), min_size=1))
def test_any_character_of_a_path_may_be_escaped(path: str) -> None:
    escaped = "/" + "".join(f"%{ord(character):02X}" for character in path)
    assert normalised(escaped.encode()) == b"/" + path.encode()


def test_escaped_delimiters_stay_escaped() -> None:
    assert normalised(b"/a%2Fb%3Fc%23d%25e?f=%41") == b"/a%2Fb%3Fc%23d%25e?f=%41"
