"""Whatever body comes, the answer is a 200, or a 4xx of the one shape."""

import http.client
import json
from urllib.parse import urlsplit

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fashion_mnist.classes import CLASSES
from tests.support.bodies import bad_bodies, good_bodies
from tests.support.command import ServeCommand

GARMENTS = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8)
BODIES_AT_ONCE = 20
SEEDS = [body for body in [*good_bodies(GARMENTS), *bad_bodies(GARMENTS[0])] if len(body.content) < 20_000]
TYPES = sorted({body.content_type for body in SEEDS}) + [
    "multipart/form-data; boundary=x",
    "application/x-www-form-urlencoded",
    "application/json; charset=utf-16",
    ";",
    "image/*",
]
FORM = b'--x\r\nContent-Disposition: form-data; name="%b"\r\nContent-Type: %b\r\n\r\n%b\r\n--x--\r\n'

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-300, 300) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=30) | st.dictionaries(st.sampled_from(["instances", "b64", "a"]), inner),
    max_leaves=30,
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A body of the corpus with some of it cut, doubled, altered or replaced by what belongs to another."""
    content = bytearray(draw(st.sampled_from(SEEDS)).content)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.integers(0, 64)))
        other = draw(st.sampled_from(SEEDS)).content[start:end]
        content[start:end] = draw(st.sampled_from([b"", content[start:end] * 2, other]) | st.binary(max_size=16))
    return bytes(content)


bodies = st.one_of(
    mutated(),
    st.binary(max_size=2000),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.builds(
        lambda name, kind, content: FORM % (name, kind, content),
        st.binary(max_size=9),
        st.binary(max_size=30),
        mutated(),
    ),
)
requests = st.lists(
    st.tuples(bodies, st.sampled_from(TYPES), st.sampled_from(["", "?top_k=3", "?top_k=x", "?a=b"])),
    min_size=BODIES_AT_ONCE,
    max_size=BODIES_AT_ONCE,
)
many = settings(
    deadline=None,
    suppress_health_check=list(HealthCheck),
    # The first body that fails is told; to shrink twenty at once would take longer than to read it.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)


def check(url: str, sent: list[tuple[bytes, str, str]]) -> None:
    address = urlsplit(url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=20)
    try:
        for content, content_type, query in sent:
            connection.request(
                "POST", address.path + query, content, {"Content-Type": content_type} if content_type else {}
            )
            response = connection.getresponse()
            found = response.read()
            told = f"{response.status} {found[:300]!r} for {content_type!r} {query!r} {content[:300]!r}"
            assert response.headers["content-type"] == "application/json", told
            answer = json.loads(found)
            if response.status == 200:
                assert set(answer) == {"predictions", "model_version"}, told
                assert all("error" in each or each["label"] in CLASSES for each in answer["predictions"]), told
            else:
                assert 400 <= response.status < 500, told
                assert set(answer) == {"error"}, told
                assert {"code", "message"} <= set(answer["error"]) <= {"code", "message", "index"}, told
    finally:
        connection.close()


@settings(many, max_examples=20_000 // BODIES_AT_ONCE)
@given(requests)
def test_through_the_embedded_engine(embedded: ServeCommand, sent: list[tuple[bytes, str, str]]) -> None:
    check(embedded.url, sent)


@settings(many, max_examples=2_000 // BODIES_AT_ONCE)
@given(requests)
def test_through_torchserve(in_front: ServeCommand, sent: list[tuple[bytes, str, str]]) -> None:
    check(in_front.url, sent)
