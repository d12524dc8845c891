"""A repair of TorchServe 0.12.0: form fields of the same name no longer replace each other.

Its worker puts a request's fields into a dictionary by name (`ts.service.Service.retrieve_data_for_inference`), so of
`curl -F image=@a.png -F image=@b.png` only the second image reached a handler, and nobody was told.
"""

import logging
from typing import Any

log = logging.getLogger(__name__)


def apply() -> None:
    """Number the repeated names of each request before the dictionary is made: image, image[1], image[2]."""
    from ts.protocol import otf_message_handler

    original = getattr(otf_message_handler, "_retrieve_request", None)
    if original is None:
        log.warning("this TorchServe is not 0.12.0: of form fields with the same name only the last will be answered")
        return
    if getattr(original, "numbers_fields", False):
        return

    def retrieve_request(connection: Any) -> dict[str, Any] | None:
        request: dict[str, Any] | None = original(connection)
        if request is not None and len(request["parameters"]) > 1:
            number_repeated(request["parameters"])
        return request

    retrieve_request.numbers_fields = True  # type: ignore[attr-defined]
    otf_message_handler._retrieve_request = retrieve_request


def number_repeated(parameters: list[dict[str, Any]]) -> None:
    """Rename, in place, each field whose name came before in the list, to one that none of them has."""
    taken = {parameter["name"] for parameter in parameters}
    seen: dict[str, int] = {}
    for parameter in parameters:
        name = parameter["name"]
        count = seen.get(name, 0)
        if count:
            while (numbered := f"{name}[{count}]") in taken:
                count += 1
            parameter["name"] = numbered
            taken.add(numbered)
        seen[name] = count + 1
