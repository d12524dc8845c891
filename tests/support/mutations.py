"""What hypothesis makes of good documents and bytes: requests that are nearly right."""

import copy
from collections.abc import Iterable, Sequence
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

AT_ONCE = 20
"""Requests of one example: to make them takes longer than to send them."""


def quantity(requests: int) -> settings:
    """As many examples as hold so many requests, of any duration."""
    return settings(
        deadline=None,
        suppress_health_check=list(HealthCheck),
        # The first request that fails is reported; to shrink twenty at once would take longer than to read it.
        phases=[Phase.explicit, Phase.reuse, Phase.generate],
        max_examples=max(1, requests // AT_ONCE),
    )


many = quantity(4_000)
"""In a test. `python -m tests.hostile` sends more of them."""

WORDS = ["images", "UINT8", "BYTES", "FP32", "label", "probabilities", "name", "data", "shape", "parameters", "7", ""]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-300, 2**64) | st.floats() | st.sampled_from(WORDS) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=3),
    max_leaves=8,
)


def _places(document: Any) -> list[tuple[Any, Any]]:
    """Each place of a document: what it is in, and its key or index there."""
    if isinstance(document, dict):
        here: list[tuple[Any, Any]] = [(document, key) for key in document]
    elif isinstance(document, list):
        here = [(document, index) for index in range(min(len(document), 3))]
    else:
        return []
    return here + [place for container, key in list(here) for place in _places(container[key])]


class Corpus(Sequence[Any]):
    """Documents or bytes. Hypothesis would show all of them, images too, on each occasion."""

    def __init__(self, members: Iterable[Any]) -> None:
        self._members = list(members)

    def __getitem__(self, place: Any) -> Any:
        return self._members[place]

    def __len__(self) -> int:
        return len(self._members)

    def __repr__(self) -> str:
        return f"Corpus of {len(self)}"


@st.composite
def one_of(draw: st.DrawFn, corpus: Corpus) -> Any:
    """One of them."""
    return corpus[draw(st.integers(0, len(corpus) - 1))]


@st.composite
def altered(draw: st.DrawFn, corpus: Corpus) -> Any:
    """One of these documents, with up to three of its places replaced, doubled or gone."""
    document = [copy.deepcopy(draw(one_of(corpus)))]
    for _ in range(draw(st.integers(0, 3))):
        places = _places(document)
        if not places:
            break
        container, key = places[draw(st.integers(0, len(places) - 1))]
        match draw(st.sampled_from(["replace", "double", "remove"])):
            case "replace":
                container[key] = draw(json_values)
            case "double" if isinstance(container[key], list):
                container[key] = container[key] * 2
            case _ if container is not document:
                del container[key]
    return document[0]


@st.composite
def damaged(draw: st.DrawFn, corpus: Corpus) -> bytes:
    """Some of these bytes, as they are or with parts of them cut, doubled or replaced."""
    found = bytearray(draw(one_of(corpus)))
    for _ in range(draw(st.integers(0, 2))):
        start = draw(st.integers(0, len(found)))
        end = min(len(found), start + draw(st.integers(0, 64)))
        found[start:end] = draw(st.sampled_from([b"", bytes(found[start:end]) * 2]) | st.binary(max_size=16))
    return bytes(found)
