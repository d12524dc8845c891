"""What `export.folding` gains: ONNX Runtime's time for the graph as exported, for the one that is folded and no more,
and for the classifier step by step.

    python -m export.timing [WEIGHTS]

All run interleaved in one process, on one thread, whose own time is taken: other processes add little to it. Printed
are the medians, in microseconds an image.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime

from export import onnx
from export.folding import Folded, ForOnnxRuntime
from fashion_mnist.network import load_weights
from fashion_mnist.task import FASHION_MNIST

BATCHES: Final = (1, 8, 32, 64)
ROUNDS: Final = 21
IMAGES: Final = 2000
"""Images per round."""


def measure(paths: list[Path]) -> list[dict[int, float]]:
    """For each graph, the median time of an image in microseconds, by batch size."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = [onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]) for path in paths]
    images = np.random.default_rng(seed=0).integers(0, 256, (max(BATCHES), *FASHION_MNIST.geometry), dtype=np.uint8)
    medians: list[dict[int, float]] = [{} for _ in paths]
    for batch in BATCHES:
        times: list[list[float]] = [[] for _ in paths]
        for _ in range(ROUNDS):
            for place, session in enumerate(sessions):
                start = time.thread_time()
                for _ in range(IMAGES // batch):
                    session.run(None, {"images": images[:batch]})
                times[place].append((time.thread_time() - start) / (IMAGES // batch * batch) * 1e6)
        for place, samples in enumerate(times):
            medians[place][batch] = statistics.median(samples)
    return medians


def main() -> None:
    """Print the times of the graphs."""
    classifier = load_weights(Path(sys.argv[1] if len(sys.argv) > 1 else "model_store/weights.pt")).eval()
    with tempfile.TemporaryDirectory() as folder:
        graphs = {"exported": ForOnnxRuntime(classifier), "folded": Folded(classifier), "step_by_step": classifier}
        paths = [Path(folder) / f"{name}.onnx" for name in graphs]
        for path, graph in zip(paths, graphs.values(), strict=True):
            onnx.export(graph, path, classifier.task)
        for path, medians in zip(paths, measure(paths), strict=True):
            print(
                path.stem, *(f"batch {batch}: {median:.1f} us an image" for batch, median in medians.items()), sep="\t"
            )


if __name__ == "__main__":
    main()
