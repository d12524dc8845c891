"""What launches and copies cost, and what hides them: CUDA graphs, page-locked memory, several streams."""

import contextlib
from collections.abc import Callable
from typing import Any, Final

import torch

from benchmarks.gpu.engines import LARGEST_BATCH, Eager, open_onnx
from benchmarks.gpu.rates import measure, noise
from benchmarks.gpu.steps import Found, Run
from fashion_mnist.classes import CLASSES

BATCHES: Final = (1, 32, 512, 4096)
STREAMED: Final = 65536


def graphs(run: Run) -> Found:
    """CUDA graphs: ONNX Runtime's, host to host, and PyTorch's, on the device; each beside the same without."""
    engines = {
        f"ONNX, {name}": open_onnx(run, max_gpu_batch=LARGEST_BATCH, cuda_graphs=on)
        for name, on in (("no graphs", False), ("CUDA graphs", True))
    }
    eager = Eager(run)
    rows: list[dict[str, Any]] = []
    for batch in run.size(BATCHES, BATCHES[:2]):
        images = noise(batch)
        on_device = torch.from_numpy(images).to(run.device)
        calls: dict[str, Callable[[], object]] = {
            name: lambda engine=engine, images=images: engine.predict(images)  # type: ignore[misc]
            for name, engine in engines.items()
        }
        calls["eager, on the device"] = lambda on_device=on_device: eager.classifier(on_device)  # type: ignore[misc]
        calls["eager, on the device, CUDA graph"] = captured(run, eager.classifier, on_device)
        with torch.inference_mode():
            rows += [
                {"engine": name, "batch": batch, **measure(call, batch, run.size(0.2, 0.02), settle(run))}
                for name, call in calls.items()
            ]
    return {"figures": rows}


def captured(run: Run, module: torch.nn.Module, images: torch.Tensor) -> Callable[[], object]:
    """A call that replays a graph of `module`; in a dry run it calls it."""
    if run.dry:
        return lambda: module(images)
    graph = torch.cuda.CUDAGraph()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.no_grad():
        # What allocates or chooses at its first calls must have done so.
        with torch.cuda.stream(side):
            for _ in range(3):
                module(images)
        torch.cuda.current_stream().wait_stream(side)
        with torch.cuda.graph(graph):
            module(images)
    return graph.replay


def streams(run: Run) -> Found:
    """A long batch from host memory and back, in pieces: pageable, page-locked, and over several streams at once."""
    count, piece = run.size((STREAMED, 4096), (128, 32))
    classifier = Eager(run).classifier
    pageable = torch.from_numpy(noise(count))
    locked = pageable.pin_memory() if not run.dry else pageable
    rows = []
    for name, images, number in (
        ("pageable, 1 stream", pageable, 1),
        ("page-locked, 1 stream", locked, 1),
        ("page-locked, 2 streams: double buffers", locked, 2),
        ("page-locked, 4 streams", locked, 4),
    ):
        call = over_streams(run, classifier, images, piece, number)
        with torch.inference_mode():
            rows.append({"how": name, "piece": piece, **measure(call, count, run.size(0.5, 0.02), settle(run))})
    return {"figures": rows}


def over_streams(
    run: Run, module: torch.nn.Module, images: torch.Tensor, piece: int, number: int
) -> Callable[[], object]:
    """A call that computes all `images`, piece by piece, the streams in turn: one copies while another computes."""
    outputs = [torch.empty(len(part), len(CLASSES), pin_memory=not run.dry) for part in images.split(piece)]
    used: list[Any] = [None if run.dry else torch.cuda.Stream() for _ in range(number)]

    def call() -> None:
        for place, part in enumerate(images.split(piece)):
            stream = used[place % number]
            with contextlib.nullcontext() if stream is None else torch.cuda.stream(stream):
                probabilities = module(part.to(run.device, non_blocking=True))
                outputs[place].copy_(probabilities, non_blocking=True)

    return call


def settle(run: Run) -> Callable[[], object]:
    """What waits until the device has done all that it was given."""
    return (lambda: None) if run.dry else torch.cuda.synchronize
