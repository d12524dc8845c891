"""Explains a prediction: each layer's output, and an occlusion map of the image.

It uses explain.onnx, which `fashion-mnist export` writes beside the served model: the same network with every layer's
output and its weights, and with a description in its metadata.
"""

import base64
import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fashion_mnist.errors import ModelError
from fashion_mnist.model_store import EXPLAIN
from fashion_mnist.system.checksums import verify

INPUT: Final = "images"
PROBABILITIES: Final = "probabilities"
METADATA: Final = "explanation"
"""The key in the graph's metadata of the rest of `Explainer.network`, as JSON."""

_WINDOWS_PER_SIDE: Final = 5
"""A window's side is the image's shorter side divided by this: 6 of 28 pixels."""

_STRIDES_PER_WINDOW: Final = 3
_MAX_POSITIONS: Final = 16
"""The maximum number of window positions per side."""


class Occlusion(NamedTuple):
    """The positions of the window that is blacked out, in pixels."""

    window: int
    stride: int
    rows: int
    columns: int

    def to_json(self) -> dict[str, Any]:
        return {"window": self.window, "stride": self.stride, "shape": [self.rows, self.columns]}


@dataclass(frozen=True)
class Explanation:
    """The explanation of one image."""

    layers: dict[str, NDArray[np.float32]]
    """Each layer's output without the batch dimension, in order; the last one is the probabilities."""
    occlusion: NDArray[np.float32] | None
    """float32 [rows, columns]: how much the predicted class's probability falls if the window there is black."""

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """float32 [classes]"""
        return self.layers[PROBABILITIES]


class Explainer:
    """An explain.onnx in ONNX Runtime, on one thread of the CPU. It is thread-safe."""

    def __init__(self, model_store: Path) -> None:
        """Load the explain.onnx of a model store after verifying its checksum. Raises ModelError."""
        # The import takes a quarter of a second.
        from fashion_mnist.engines.onnx import open_session

        path = model_store / EXPLAIN
        verify(path)
        self._session = open_session(path, threads=1)
        try:
            self._described: dict[str, Any] = json.loads(self._session.get_modelmeta().custom_metadata_map[METADATA])
            self._names = [layer["name"] for layer in self._described["layers"]]
            (taken,) = self._session.get_inputs()
            channels, height, width = taken.shape[1:]
            self._shape = (int(channels), int(height), int(width))
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{path} has no description of layers ({error!r}): run `fashion-mnist export`") from None

    @property
    def occlusion(self) -> Occlusion:
        """The window positions for images of this size."""
        return occlusion(*self._shape[1:])

    def explain(self, image: NDArray[np.uint8], *, occlude: bool = True) -> Explanation:
        """The layers' outputs for one image, uint8 [c, h, w], and with `occlude` its occlusion map."""
        batch = np.ascontiguousarray(image).reshape(1, *self._shape)
        found = self._session.run(self._names, {INPUT: batch})
        layers = {name: values[0] for name, values in zip(self._names, found, strict=True)}
        return Explanation(layers, self._occlude(batch, layers[PROBABILITIES]) if occlude else None)

    def layers(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """The layers' outputs for images, uint8 [n, c, h, w]: float32 [n, ...] by name."""
        found = self._session.run(self._names, {INPUT: images.reshape(-1, *self._shape)})
        return dict(zip(self._names, found, strict=True))

    @functools.cached_property
    def network(self) -> dict[str, Any]:
        """The network for programs that recompute it: layers, their inputs, and weights in base64."""
        weights = [layer[part] for layer in self._described["layers"] for part in ("weight", "bias") if part in layer]
        values = self._session.run(weights, {INPUT: np.zeros((1, *self._shape), np.uint8)})
        return {
            **self._described,
            "occlusion": self.occlusion.to_json(),
            "weights": {
                name: {
                    "shape": list(value.shape),
                    "values": base64.b64encode(value.astype("<f4", copy=False).tobytes()).decode(),
                }
                for name, value in zip(weights, values, strict=True)
            },
        }

    def _occlude(self, batch: NDArray[np.uint8], probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute one batch with a copy of the image for each window position, blacked out there."""
        window, stride, rows, columns = self.occlusion
        hidden = np.repeat(batch, rows * columns, axis=0)
        for place in range(rows * columns):
            top, left = (stride * at for at in divmod(place, columns))
            hidden[place, :, top : top + window, left : left + window] = 0
        (found,) = self._session.run([PROBABILITIES], {INPUT: hidden})
        winner = int(probabilities.argmax())
        fall: NDArray[np.float32] = (probabilities[winner] - found[:, winner]).reshape(rows, columns)
        return fall


def occlusion(height: int, width: int) -> Occlusion:
    """The window positions for an image of this size: some 150, whatever the size."""
    window = max(1, round(min(height, width) / _WINDOWS_PER_SIDE))
    stride = max(1, window // _STRIDES_PER_WINDOW, max(height, width) // _MAX_POSITIONS)
    return Occlusion(window, stride, (height - window) // stride + 1, (width - window) // stride + 1)


def open_explainer(model_store: Path) -> Explainer | None:
    """The explainer of a model store; None if it has no explain.onnx. Raises ModelError if that was altered."""
    return Explainer(model_store) if (model_store / EXPLAIN).exists() else None
