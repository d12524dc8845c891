"""Every kind of call by tritonclient, run by its own Python: addresses of HTTP and gRPC, and an image, are arguments.

Prints what came of each as JSON.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
from tritonclient.utils import InferenceServerException

MODEL = "fashion_mnist"
OUTPUTS = ("probabilities", "index", "label", "unknown")


def inputs(kind: Any, image: bytes) -> dict[str, list[Any]]:
    """The inputs of each call: two black images as pixels, and one file."""
    pixels = kind.InferInput("images", [2, 1, 28, 28], "UINT8")
    pixels.set_data_from_numpy(np.zeros((2, 1, 28, 28), np.uint8))
    file = kind.InferInput("images", [1], "BYTES")
    file.set_data_from_numpy(np.array([image], dtype=object))
    return {"pixels": [pixels], "file": [file]}


def outputs(kind: Any) -> dict[str, list[Any] | None]:
    """The outputs of each call: all, as they come; and one, as JSON where that can be chosen."""
    as_json = {"binary_data": False} if kind is tritonclient.http else {}
    return {"all": None, "label": [kind.InferRequestedOutput("label", **as_json)]}


def read(result: Any) -> dict[str, Any]:
    """The outputs that came."""
    found = {}
    for name in OUTPUTS:
        array = result.as_numpy(name)
        if array is not None:
            found[name] = [each.decode() if isinstance(each, bytes) else each for each in array.tolist()]
    return found


def synchronously(kind: Any, address: str, image: bytes) -> dict[str, Any]:
    """What a synchronous client gets."""
    with kind.InferenceServerClient(address) as client:
        as_json = {"as_json": True} if kind is tritonclient.grpc else {}
        metadata = client.get_model_metadata(MODEL, **as_json)
        found: dict[str, Any] = {
            "live": client.is_server_live(),
            "ready": client.is_server_ready(),
            "model": client.is_model_ready(MODEL),
            "version": client.is_model_ready(MODEL, metadata["versions"][0]),
            "other": client.is_model_ready("other"),
            "metadata": metadata["inputs"][0]["name"],
        }
        found["server"] = client.get_server_metadata(**as_json)["name"]
        for what, sent in inputs(kind, image).items():
            for which, asked in outputs(kind).items():
                found[f"{what} {which}"] = read(client.infer(MODEL, sent, outputs=asked, request_id="7"))
        try:
            client.infer("other", inputs(kind, image)["file"])
        except InferenceServerException as error:
            found["refused"] = error.message()
    return found


async def asynchronously(kind: Any, client_kind: Any, address: str, image: bytes) -> dict[str, Any]:
    """What an asynchronous client gets, by many calls at once."""
    async with client_kind.InferenceServerClient(address) as client:
        found: dict[str, Any] = {"live": await client.is_server_live(), "ready": await client.is_model_ready(MODEL)}
        for what, sent in inputs(kind, image).items():
            results = await asyncio.gather(*[client.infer(MODEL, sent) for _ in range(50)])
            found[what] = [read(result)["label"] for result in results]
    return found


def main(http: str, grpc: str, path: str) -> None:
    """Make all calls."""
    image = Path(path).read_bytes()
    found = {
        "http": synchronously(tritonclient.http, http, image),
        "grpc": synchronously(tritonclient.grpc, grpc, image),
        "http, asynchronously": asyncio.run(asynchronously(tritonclient.http, tritonclient.http.aio, http, image)),
        "grpc, asynchronously": asyncio.run(asynchronously(tritonclient.grpc, tritonclient.grpc.aio, grpc, image)),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
