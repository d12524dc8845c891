"""What a path answers that is asked by GET."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from fashion_mnist.predictions import JSON, Answer


class Offered(NamedTuple):
    """The versions of the model that clients may ask for."""

    default: str
    """Which one answers where none is named."""
    ready: Mapping[str, bool]
    """Whether each is ready, by name, in the order in which they were loaded."""


class Page(NamedTuple):
    """What a path that is asked by GET answers, by whether the engine is ready."""

    ready: Answer
    not_ready: Answer
    version: str = ""
    """Of which version; "" for the default."""


def page(document: Mapping[str, Any], not_ready: Mapping[str, Any] | None = None, version: str = "") -> Page:
    """A page of JSON: the same at all times, or with another one, and 503, while the engine is not ready."""
    ready = Answer(200, JSON, json.dumps(document).encode())
    return Page(ready, Answer(503, JSON, json.dumps(not_ready).encode()) if not_ready else ready, version)
