"""Answers to GET."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from fashion_mnist.predictions import JSON, Answer


class Offered(NamedTuple):
    """The versions of the model that clients may request."""

    default: str
    """The version for requests that name none."""
    ready: Mapping[str, bool]
    """Whether each version is ready, by name, in the order in which they were loaded."""


class Page(NamedTuple):
    """The answer to GET on one path, depending on whether the engine is ready."""

    ready: Answer
    not_ready: Answer
    version: str = ""
    """The version whose readiness counts; "" for the default."""


def page(document: Mapping[str, Any], not_ready: Mapping[str, Any] | None = None, version: str = "") -> Page:
    """A page of JSON; while the engine is not ready, it answers `not_ready`, if given, with 503."""
    ready = Answer(200, JSON, json.dumps(document).encode())
    return Page(ready, Answer(503, JSON, json.dumps(not_ready).encode()) if not_ready else ready, version)
