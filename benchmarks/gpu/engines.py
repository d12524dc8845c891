"""The engines on the GPU: it is really there that they compute, and their answers are the CPU's."""

import contextlib
import json
import logging
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks.gpu import host
from benchmarks.gpu.steps import Found, Run
from fashion_mnist.engines import MODEL_FILES, Engine, load_file
from fashion_mnist.engines.onnx import OnnxEngine, load_cuda
from fashion_mnist.model_store import model_task

BATCHES: Final = (1, 2, 3, 7, 8, 9, 31, 32, 33, 100, 128, 129, 500, 512, 513, 1024, 2048, 4096)
LARGEST_BATCH: Final = 4096
TOLERANCE: Final = 1e-4
"""Of a probability."""

Pixels = NDArray[np.uint8]


def open_onnx(run: Run, path: Path | None = None, *, max_gpu_batch: int = 512, cuda_graphs: bool = False) -> Engine:
    """The ONNX engine as a GPU uses it, bound batches and all; in a dry run on the CPU."""
    path = path or host.model_store() / MODEL_FILES["onnx"]
    options: dict[str, Any] = {"threads": 1, "gpu_id": 0, "max_gpu_batch": max_gpu_batch, "cuda_graphs": cuda_graphs}
    return OnnxEngine(path, run.device, task=model_task(host.model_store()), fixed_batches=True, **options)


def open_torchscript(run: Run) -> Engine:
    """The TorchScript engine."""
    return load_file(host.model_store() / MODEL_FILES["torchscript"], run.device, gpu_id=0)


def open_session(
    run: Run, path: Path, options: onnxruntime.SessionOptions | None = None, **provider_options: str
) -> onnxruntime.InferenceSession:
    """A session on the GPU, in a dry run on the CPU. Raises AssertionError where it is elsewhere."""
    if options is None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
    providers: list[Any] = ["CPUExecutionProvider"]
    if not run.dry:
        load_cuda()
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": "0", **provider_options}))
    session = onnxruntime.InferenceSession(path, options, providers=providers, enable_fallback=False)
    assert ("CUDAExecutionProvider" in session.get_providers()) != run.dry, session.get_providers()
    return session


def onnx(run: Run) -> Found:
    """The ONNX engine: its provider, page-locked buffers, and all answers at any batch size."""
    with _warnings() as warned:
        engine = open_onnx(run)
    assert not warned, f"the engine warned: {warned}"  # of memory that is not page-locked, above all
    assert ("CUDA" in engine.provider) != run.dry, engine.provider
    return {"provider": engine.provider, "page-locked": "no warning"} | compare(run, engine)


def onnx_graphs(run: Run) -> Found:
    """The same with CUDA graphs, and with batches as large as they may become."""
    with _warnings() as warned:
        engine = open_onnx(run, max_gpu_batch=LARGEST_BATCH, cuda_graphs=True)
    assert not warned, f"the engine warned: {warned}"
    return {"provider": engine.provider} | compare(run, engine)


def onnx_profile(run: Run) -> Found:
    """Where ONNX Runtime ran each node, by its own profile."""
    path = host.model_store() / MODEL_FILES["onnx"]
    engine = open_onnx(run, path)
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = f"{folder}/profile"
        session = open_session(run, path, options)
        session.run(None, {"images": host.images(run).images[:32]})
        events = json.loads(Path(session.end_profiling()).read_text())
    ran = Counter(
        (event["args"]["op_name"], event["args"]["provider"])
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")
    )
    elsewhere = {name: where for name, where in ran if where != engine.provider}
    assert ran, "the profile has no node"
    assert not elsewhere, f"not on {engine.provider}: {elsewhere}"
    return {"nodes": [{"operator": name, "provider": where, "count": count} for (name, where), count in ran.items()]}


def torch_engines(run: Run) -> Found:
    """TorchScript, and the classifier as it was trained: eager."""
    scripted = open_torchscript(run)
    assert scripted.provider == ("cpu" if run.dry else "cuda:0"), scripted.provider
    found: Found = {"provider": scripted.provider}
    for name, engine in (("TorchScript", scripted), ("eager", Eager(run))):
        found |= {f"{name}: {what}": value for what, value in compare(run, engine).items()}
    return found


def compare(run: Run, engine: Engine) -> Found:
    """Compare an engine's answers with the CPU's. Raises AssertionError where a label differs, or a batch size."""
    test = host.images(run)
    expected = load_file(host.model_store() / MODEL_FILES["onnx"], "cpu").predict(test.images)
    found = engine.predict(test.images)
    wrong = int((found.argmax(axis=1) != expected.argmax(axis=1)).sum())
    difference = float(np.abs(found - expected).max())
    sizes = [size for size in BATCHES if size <= len(test.images)]
    by_size = max(float(np.abs(engine.predict(test.images[:size]) - expected[:size]).max()) for size in sizes)
    assert not wrong, f"{wrong} of {len(expected)} labels are not the CPU's"
    assert max(difference, by_size) <= TOLERANCE, f"probabilities differ by {difference}, at batch sizes by {by_size}"
    return {
        "labels": f"{len(expected):,} of {len(expected):,} as on the CPU",
        "accuracy": f"{(found.argmax(axis=1) == test.labels).mean():.2%}",
        "largest difference": f"{difference:.1e}; at batch sizes of {sizes[0]} to {sizes[-1]} {by_size:.1e}",
    }


class Eager:
    """The classifier in PyTorch, layer by layer. See `fashion_mnist.engines.Engine`."""

    name = "eager"

    def __init__(self, run: Run) -> None:
        import torch  # here, because the ONNX engine finds CUDA without it, and that is to be seen

        from fashion_mnist.network import load_weights

        self._torch = torch
        torch.backends.cudnn.allow_tf32 = False  # as in the engines
        self.provider = str(torch.device(run.device))
        self.classifier = load_weights(host.model_store() / "weights.pt").to(run.device)

    def predict(self, images: Pixels) -> NDArray[np.float32]:
        with self._torch.inference_mode():
            batch = self._torch.from_numpy(images.copy()).to(self.provider)
            probabilities: NDArray[np.float32] = self.classifier(batch).cpu().numpy()
            return probabilities


@contextlib.contextmanager
def _warnings() -> Iterator[list[str]]:
    """What is logged as a warning, or worse, while the block runs."""
    said: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    handler = Kept(logging.WARNING)
    logging.getLogger().addHandler(handler)
    try:
        yield said
    finally:
        logging.getLogger().removeHandler(handler)
