"""Metrics, in an array that other processes can read, so that neither scrapes nor restarts delay requests.

Each request writes its times into a buffer, which NumPy counts from time to time. `families` merges the arrays of all
gateways into Prometheus metrics.
"""

import math
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString

from fashion_mnist import drift
from fashion_mnist.decoding.picture import Pixels
from fashion_mnist.drift import FIGURES, Reference, max_bins
from fashion_mnist.errors import FashionMNISTError, InputError, Overloaded, Unavailable
from fashion_mnist.predictions import Probabilities
from fashion_mnist.task import FASHION_MNIST, Task

STAGES: Final = ("parse", "decode", "queue", "engine", "encode")
SECONDS: Final = (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0)
IMAGES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CONFIDENCE: Final = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99)
GAUGES: Final = ("ready", "connections", "queued_images", "buffered_bytes")

SILENT_S: Final = 3.0
"""A gateway writes twice a second how things stand."""

SAMPLED: Final = 8
"""Images of a batch that are sampled for drift, at most."""

AT_ONCE: Final = 1024
"""Requests and images that are buffered before they are counted; that blocks the event loop for 0.2 ms."""

Times = tuple[float, float, float, float, float, float]
"""A request's duration and that of each stage, in seconds."""


def _codes(error: type[FashionMNISTError]) -> Iterator[str]:
    """The codes of an error and of all its subclasses."""
    yield error.code
    for subclass in error.__subclasses__():
        yield from _codes(subclass)


CODES: Final = (
    "ok",
    *sorted({*_codes(InputError), Overloaded.code, Unavailable.code, FashionMNISTError.code}),
)
"""The outcomes of requests: an answer, or an error by its code."""

# A list of tuples takes as long to write, and NumPy longer to read.
_TIMES: Final = struct.Struct(f"{1 + len(STAGES)}d")
_write_times: Final = _TIMES.pack_into


def _shapes(task: Task) -> dict[str, tuple[int, ...]]:
    """The shapes of the figures in a file, by name, in order."""
    classes = len(task.classes)
    return {
        "codes": (len(CODES),),
        "times": (1 + len(STAGES), len(SECONDS) + 1),
        "time_sums": (1 + len(STAGES),),
        "batches": (len(IMAGES) + 1,),
        "batch_sum": (1,),
        "classes": (classes,),
        "confidence": (len(CONFIDENCE) + 1,),
        "confidence_sum": (1,),
        "gauges": (len(GAUGES),),
        "written_s": (1,),
        "window": (len(FIGURES), max_bins(classes)),
    }


_Rows: TypeAlias = Mapping[tuple[str, ...], tuple[NDArray[Any], float]]
"""By the values of its labels: the counts of a histogram's buckets, and the sum of the values."""


class Metrics:
    """One gateway's metrics. Only that gateway writes them; they outlive it."""

    def __init__(self, path: Path, reference: Reference | None = None, task: Task = FASHION_MNIST) -> None:
        """Continue from the file's values if it exists. Drift is measured against `reference`, if there is one."""
        if not path.exists():
            path.write_bytes(bytes(8 * sum(map(math.prod, _shapes(task).values()))))
        self._found = _open(path, "r+", task)
        self._classes = len(task.classes)
        self._written = bytearray(AT_ONCE * _TIMES.size)
        self._times = np.frombuffer(self._written).reshape(AT_ONCE, 1 + len(STAGES))
        self._answers = 0
        """Rows of `_times` that are not counted yet."""
        self._probabilities: list[Probabilities] = []
        self._images = 0
        """The number of images in `_probabilities`."""
        self.reference = reference
        """The reference of drift."""
        self._sample: list[tuple[Pixels, Probabilities]] = []
        self._sampled = 0
        self._window = np.empty((len(FIGURES), 0), np.uint16)  # bins of the latest sampled images
        self._codes = dict.fromkeys(CODES, 0)

    def answer(self, code: str, times: Times) -> None:
        """Count an answer: "ok", or the code of an error if all images of the request are invalid."""
        self._codes[code] += 1
        _write_times(self._written, _TIMES.size * self._answers, *times)
        self._answers += 1
        if self._answers == AT_ONCE:
            self._count_requests()

    def refuse(self, code: str) -> None:
        """Count a request that was refused with the error of this code."""
        self._codes[code] += 1

    def batch(self, images: Pixels, probabilities: Probabilities) -> None:
        """Count a batch of the default version."""
        self.other_batch(probabilities)
        # Do not buffer more than the window holds.
        if self.reference is not None and self._sampled < self.reference.window:
            if (step := -(-len(images) // SAMPLED)) > 1:
                # Copied, so that the whole batch is not kept in memory.
                images, probabilities = images[::step].copy(), probabilities[::step]
            self._sample.append((images, probabilities))
            self._sampled += len(images)

    def other_batch(self, probabilities: Probabilities) -> None:
        """Count a batch of a version that is not the default; drift is not measured."""
        self._probabilities.append(probabilities)
        self._images += len(probabilities)
        if self._images >= AT_ONCE:
            self._count_predictions()

    def restart_drift(self, reference: Reference | None) -> None:
        """Measure drift against another reference, from now on."""
        self.reference = reference
        self._sample.clear()
        self._sampled = 0
        self._window = self._window[:, :0]
        self._found["window"][:] = 0

    def gauges(self, *values: float) -> None:
        """Set the gauges, in the order of GAUGES."""
        self._found["gauges"][:] = values
        self._found["written_s"][:] = time.monotonic()

    def count(self) -> None:
        """Count what is buffered. Call it from time to time."""
        self._count_requests()
        self._count_predictions()
        if self._sample and self.reference is not None:
            images, probabilities = map(np.concatenate, zip(*self._sample, strict=True))
            self._sample.clear()
            self._sampled = 0
            bins = self.reference.bins(probabilities, drift.brightness(images))
            self._window = np.concatenate([self._window, bins], axis=1)[:, -self.reference.window :]
            self._found["window"][:] = drift.counts(self._window, self._classes)

    def _count_requests(self) -> None:
        found = self._found
        found["codes"] += list(self._codes.values())
        self._codes = dict.fromkeys(CODES, 0)
        if self._answers:
            times = self._times[: self._answers].T
            self._answers = 0
            for row, values in zip(found["times"], times, strict=True):
                _add(row, SECONDS, values)
            found["time_sums"] += times.sum(axis=1)

    def _count_predictions(self) -> None:
        found = self._found
        if self._probabilities:
            sizes = np.array([len(probabilities) for probabilities in self._probabilities])
            probabilities = np.concatenate(self._probabilities)
            self._probabilities.clear()
            self._images = 0
            _add(found["batches"], IMAGES, sizes)
            found["batch_sum"] += sizes.sum()
            confidence = probabilities.max(axis=1)
            found["classes"] += np.bincount(probabilities.argmax(axis=1), minlength=self._classes)
            _add(found["confidence"], CONFIDENCE, confidence)
            found["confidence_sum"] += confidence.sum()


def paths_of(folder: Path, gateways: int) -> list[Path]:
    """The metrics files of all gateways, in the server's own folder."""
    return [folder / f"metrics-{place}" for place in range(gateways)]


def written_s(path: Path, task: Task = FASHION_MNIST) -> float:
    """When a gateway last wrote its figures, by time.monotonic(); 0.0 if it never did."""
    return float(_open(path, "r", task)["written_s"][0]) if path.exists() else 0.0


def totals(paths: Sequence[Path], task: Task = FASHION_MNIST) -> dict[str, NDArray[np.float64]]:
    """The sums over all gateways by name; missing files count as zeros."""
    found = [_open(path, "r", task) for path in paths if path.exists()]
    total = {name: sum((each[name] for each in found), np.zeros(shape)) for name, shape in _shapes(task).items()}
    # How things stand is known of those alone that have said so lately: one that was stopped is ready for nobody.
    heard = [each for each in found if time.monotonic() - each["written_s"][0] < SILENT_S]
    total["gauges"] = sum((each["gauges"] for each in heard), np.zeros(len(GAUGES)))
    total["silent"] = np.array([len(found) - len(heard)])
    return total


def families(paths: Sequence[Path], reference: Reference | None = None, task: Task = FASHION_MNIST) -> Iterator[Metric]:
    """The metrics of all gateways together, for Prometheus; `reference` is the gateways' reference of drift."""
    total = totals(paths, task)

    requests = CounterMetricFamily("serving_requests", "Requests by outcome.", labels=["code"])
    for code, value in zip(CODES, total["codes"], strict=True):
        requests.add_metric([code], value)
    yield requests

    yield _histogram(
        "serving_request_seconds",
        "Duration of predictions, from a request's first byte to its answer.",
        SECONDS,
        {(): (total["times"][0], total["time_sums"][0])},
    )
    yield _histogram(
        "serving_stage_seconds",
        "Duration of predictions by stage; parse includes the time until the last byte arrived.",
        SECONDS,
        {(stage,): (total["times"][place], total["time_sums"][place]) for place, stage in enumerate(STAGES, 1)},
        ["stage"],
    )
    batches: _Rows = {(): (total["batches"], total["batch_sum"][0])}
    yield _histogram("serving_batch_images", "Images per batch.", IMAGES, batches)
    confidence: _Rows = {(): (total["confidence"], total["confidence_sum"][0])}
    yield _histogram("serving_confidence", "Probability of the most likely class.", CONFIDENCE, confidence)

    predictions = CounterMetricFamily("serving_predictions", "Images by predicted class.", labels=["label"])
    for label, value in zip(task.classes, total["classes"], strict=True):
        predictions.add_metric([label], value)
    yield predictions

    helps = (
        "Gateways whose engine answers.",
        "Open connections.",
        "Images that are queued for the engine.",
        "Bytes of bodies that are being received or await their answers.",
    )
    yield GaugeMetricFamily(
        "serving_silent_gateways",
        f"Gateways that have not written their figures for {SILENT_S:g} s; the gauges below leave them out.",
        value=total["silent"][0],
    )
    for name, help, value in zip(GAUGES, helps, total["gauges"], strict=True):
        yield GaugeMetricFamily(f"serving_{name}", help, value=value)
    if reference is not None:
        yield from _drift(total["window"], reference)


def version_families(listed: Sequence[Mapping[str, Any]]) -> Iterator[Metric]:
    """The metrics of each version of the model; see `gateway.process.rollout.Rollout.listed`."""
    requests = CounterMetricFamily(
        "serving_version_requests", "Requests answered by a version of the model.", labels=["version"]
    )
    ready = GaugeMetricFamily("serving_version_ready", "Whether a version is ready.", labels=["version"])
    default = GaugeMetricFamily(
        "serving_version_default", "Whether a version answers requests that name none.", labels=["version"]
    )
    health_checks = CounterMetricFamily(
        "serving_version_health_checks",
        "Health checks of a version by outcome.",
        labels=["version", "outcome"],
    )
    for row in listed:
        requests.add_metric([row["version"]], row["requests"])
        for outcome, count in row["health_checks"].items():
            health_checks.add_metric([row["version"], outcome], count)
        ready.add_metric([row["version"]], row["state"] == "ready")
        default.add_metric([row["version"]], row["default"])
    yield from (requests, ready, default, health_checks)


def _drift(window: NDArray[np.float64], reference: Reference) -> Iterator[Metric]:
    images = window[0].sum()
    yield GaugeMetricFamily("serving_drift_images", "Images from which drift is measured.", value=images)
    index = GaugeMetricFamily(
        "serving_drift_psi",
        "Population stability index against the training images; absent until there are enough images.",
        labels=["figure"],
    )
    if images >= reference.window:
        for figure, value in zip(FIGURES, reference.index(window), strict=True):
            index.add_metric([figure], value)
    yield index
    threshold = GaugeMetricFamily(
        "serving_drift_threshold", "The index rarely exceeds this without drift.", labels=["figure"]
    )
    for figure, value in zip(FIGURES, reference.thresholds, strict=True):
        threshold.add_metric([figure], value)
    yield threshold


def _open(path: Path, mode: Literal["r", "r+"], task: Task) -> dict[str, NDArray[np.float64]]:
    array, shapes = np.memmap(path, np.float64, mode), _shapes(task)
    parts = np.split(array, np.cumsum([math.prod(shape) for shape in shapes.values()])[:-1])
    return {name: part.reshape(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}


def _add(counts: NDArray[np.float64], bounds: Sequence[float], values: NDArray[Any]) -> None:
    """Count values into the buckets that end at `bounds`, and one beyond."""
    counts += np.bincount(np.searchsorted(bounds, values), minlength=len(counts))


def _histogram(
    name: str,
    help: str,
    bounds: Sequence[float],
    rows: _Rows,
    labels: Sequence[str] = (),
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, help, labels=labels)
    for values, (counts, total) in rows.items():
        ends = [*map(floatToGoString, bounds), "+Inf"]
        family.add_metric(values, list(zip(ends, np.cumsum(counts).tolist(), strict=True)), float(total))
    return family
