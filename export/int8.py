"""Whether the network would gain from eight-bit integers: the ONNX graph quantised, measured beside the released one.

    python -m export.int8 [WEIGHTS]

Static quantisation, weights per channel, activations calibrated on training images, as QDQ nodes that ONNX Runtime
fuses into integer kernels. Printed are accuracy on the test set and the medians of both graphs' times, interleaved in
one process on one thread, in microseconds an image. It is measured, not served: see training/EXPERIMENTS.md.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from onnxruntime import quantization
from onnxruntime.quantization import shape_inference

from export import onnx
from export.folding import ForOnnxRuntime
from export.timing import measure
from fashion_mnist.data import dataset
from fashion_mnist.engines import load_file
from fashion_mnist.network import load_weights

CALIBRATION_IMAGES: Final = 2000
BATCH: Final = 100


class TrainingImages(quantization.CalibrationDataReader):  # type: ignore[misc]
    """The first training images, a batch at a time."""

    def __init__(self, images: np.ndarray) -> None:
        starts = range(0, CALIBRATION_IMAGES, BATCH)
        self._batches: Iterator[dict[str, np.ndarray]] = iter(
            [{"images": images[start : start + BATCH]} for start in starts]
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next batch, None after the last."""
        return next(self._batches, None)


def quantise(source: Path, target: Path, images: np.ndarray) -> None:
    """Write the ONNX graph of `source` in eight-bit integers to `target`, calibrated on uint8 [n, c, h, w]."""
    prepared = target.with_name(f"prepared.{target.name}")
    shape_inference.quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    quantization.quantize_static(
        str(prepared),
        str(target),
        TrainingImages(images),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        # AVX2's integer products of two full bytes overflow; with seven bits in the weights they cannot.
        reduce_range=True,
    )
    prepared.unlink()


def main() -> None:
    """Print accuracy and times of both graphs."""
    classifier = load_weights(Path(sys.argv[1] if len(sys.argv) > 1 else "model_store/weights.pt")).eval()
    images: Any = dataset.load()
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"]
        onnx.export(ForOnnxRuntime(classifier), paths[0], classifier.task)
        quantise(paths[0], paths[1], images.train.images)
        for path, medians in zip(paths, measure(paths), strict=True):
            right = load_file(path, "cpu").predict(images.test.images).argmax(axis=1) == images.test.labels
            print(
                path.stem,
                f"{right.mean():.2%} of the test images",
                f"{path.stat().st_size:,} bytes",
                *(f"batch {batch}: {median:.1f} us an image" for batch, median in medians.items()),
                sep="\t",
            )


if __name__ == "__main__":
    main()
