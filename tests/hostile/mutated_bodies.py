"""Bodies for the service's own route that were once good; the answer is a 200, or a 4xx of one shape."""

import http.client
import json
from urllib.parse import urlsplit

import numpy as np
from hypothesis import strategies as st

from fashion_mnist.classes import CLASSES
from tests.support.bodies import Body, bad_bodies, good_bodies
from tests.support.mutations import AT_ONCE
from tests.support.odd_files import odd_files

GARMENTS = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8)
_FILES = [Body(odd.name, odd.content, "image/*") for odd in odd_files()]
_ALL = [*good_bodies(GARMENTS), *bad_bodies(GARMENTS[0]), *_FILES]
SEEDS = [body for body in _ALL if len(body.content) < 20_000]
TYPES = sorted({body.content_type for body in SEEDS}) + [
    "multipart/form-data; boundary=x",
    "application/x-www-form-urlencoded",
    "application/json; charset=utf-16",
    ";",
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
    min_size=AT_ONCE,
    max_size=AT_ONCE,
)


def check(url: str, sent: list[tuple[bytes, str, str]]) -> None:
    """Send bodies, each with a content type and a query, to the URL of the predictions."""
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
