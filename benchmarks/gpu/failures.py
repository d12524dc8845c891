"""What fails on a GPU fails as promised: a GPU that is hidden, full or busy.

    python -m benchmarks.gpu.failures

prints as JSON what each runtime says in this process where a GPU is asked for by name, and what it does with `auto`.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from benchmarks.gpu import host
from benchmarks.gpu.engines import compare, open_onnx
from benchmarks.gpu.handler import RUNTIMES, Context
from benchmarks.gpu.steps import ROOT, Found, Run
from fashion_mnist.engines import open_engine
from fashion_mnist.errors import DeviceUnavailable
from handlers.fashion_mnist_handler import FashionMNISTHandler

VISIBLE: Final = ("", "7", "-1", "GPU-00000000-0000-0000-0000-000000000000")
PROBE_S: Final = 60
CALLS: Final = 200


def hidden_gpu(run: Run) -> Found:
    """A GPU that CUDA_VISIBLE_DEVICES hides, or names wrongly: an error by name, the CPU with `auto`."""
    rows: list[dict[str, Any]] = []
    for visible in run.size(VISIBLE, VISIBLE[:1]):
        said = _probe({"CUDA_VISIBLE_DEVICES": visible})
        rows += [{"CUDA_VISIBLE_DEVICES": visible, "runtime": name, "error": text} for name, text in said.items()]
    serving = subprocess.run(
        [sys.executable, "-c", "from cli import main; main()", "serve", "--engine", "embedded", "--device", "cuda"],
        env=os.environ
        | {"CUDA_VISIBLE_DEVICES": "", "FASHION_MNIST_PORT": "0", "FASHION_MNIST_ADMIN_PORT": "0"}
        | {"FASHION_MNIST_GRPC_PORT": "0"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PROBE_S,
        check=False,
    )
    assert serving.returncode == 1, f"serve ended with {serving.returncode}: {serving.stderr[-500:]}"
    reason = [line for line in serving.stderr.splitlines() if "GPU" in line or "NVIDIA" in line]
    assert reason, f"serve does not say why: {serving.stderr[-500:]}"
    return {"serve --device cuda": reason[-1][:300], "errors": rows}


def full_gpu(run: Run) -> Found:
    """A GPU whose memory another process has: an engine that comes then is refused, one that was there answers."""
    onnx = open_onnx(run)
    context = Context(run, runtime="torchscript")
    handler = FashionMNISTHandler()
    handler.initialize(context)
    test = host.images(run).images
    requests = [{"body": test[:512].tobytes()}]
    with host.filled_gpu(run):
        errors = _probe({})
        found = compare(run, onnx)
        handler.handle(requests, context)
        during = context.statuses.get(0, 200)
        assert during in (200, 503), f"with a full GPU the handler answers {during}"
    context.statuses.clear()
    answer = json.loads(handler.handle(requests, context)[0])
    assert not context.statuses, f"with room on the GPU again the handler answers {context.statuses}"
    assert len(answer["predictions"]) == len(test[:512])
    return {
        "errors": [{"runtime": name, "error": text} for name, text in errors.items()],
        "an engine that was there": found["labels"],
        "TorchScript, a batch larger than any before": f"status {during}, and 200 when there is room again",
    }


def busy_gpu(run: Run) -> Found:
    """A GPU on which another process computes without end: right answers, later."""
    test = host.images(run).images
    engine = open_onnx(run)
    alone_us = _p50_us(engine.predict, test[:1])
    with host.filled_gpu(run, spinning=True):
        found = compare(run, open_onnx(run))
        beside_us = _p50_us(engine.predict, test[:1])
    return found | {"p50 of one image": f"{alone_us:.0f} us alone, {beside_us:.0f} us beside it"}


def _p50_us(predict: Any, images: Any) -> float:
    taken = []
    for _ in range(CALLS):
        started = time.perf_counter()
        predict(images)
        taken.append(time.perf_counter() - started)
    return float(np.median(taken) * 1e6)


def _probe(variables: Mapping[str, str]) -> dict[str, str]:
    """What each runtime says in a process of its own. Raises AssertionError where one does not keep its promise."""
    command = [sys.executable, "-m", "benchmarks.gpu.failures"]
    environment = os.environ | variables
    done = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=PROBE_S, check=False
    )
    assert done.returncode == 0, f"with {variables}: {done.stderr[-1000:]}"
    said: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return said


def main() -> None:
    """Be that process."""
    said = {}
    for runtime in RUNTIMES:
        try:
            open_engine(host.model_store(), runtime, "cuda", gpu_id=0)
        except DeviceUnavailable as error:
            said[runtime] = error.message
        else:
            raise AssertionError(f"{runtime} computes on a GPU that cannot be had")
        engine = open_engine(host.model_store(), runtime, "auto")
        assert "cuda" not in engine.provider.lower(), engine.provider
        probabilities = engine.predict(np.zeros((1, 1, 28, 28), np.uint8))
        assert np.isfinite(probabilities).all()
    print(json.dumps(said))


if __name__ == "__main__":
    main()
