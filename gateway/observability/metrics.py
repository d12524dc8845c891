"""What is counted: in an array that other processes can read, so that neither a scrape nor a restart costs a request.

A request writes its times into a buffer; now and then they are counted all at once, by NumPy. `families` makes of the
arrays of all gateways what Prometheus reads.
"""

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString

from fashion_mnist import drift
from fashion_mnist.decoding.picture import Pixels
from fashion_mnist.drift import FIGURES, Reference, most_bins
from fashion_mnist.errors import FashionMNISTError, InputError, Overloaded, Unavailable
from fashion_mnist.predictions import Probabilities
from fashion_mnist.task import FASHION_MNIST, Task

STAGES: Final = ("parse", "decode", "queue", "engine", "encode")
SECONDS: Final = (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0)
IMAGES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CONFIDENCE: Final = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99)
GAUGES: Final = ("ready", "connections", "queued_images", "buffered_bytes")

SAMPLED: Final = 8
"""Images of one batch, at most, that are watched for drift."""

AT_ONCE: Final = 1024
"""Requests, and images, that are kept before they are counted: that takes a fifth of a millisecond, in which nobody is
answered."""

Times = tuple[float, float, float, float, float, float]
"""A request's time, and that of each stage, in seconds."""


def _codes(error: type[FashionMNISTError]) -> Iterator[str]:
    """The codes of an error and of all below it."""
    yield error.code
    for below in error.__subclasses__():
        yield from _codes(below)


CODES: Final = (
    "ok",
    *sorted({*_codes(InputError), Overloaded.code, Unavailable.code, FashionMNISTError.code}),
)
"""What may come of a request: an answer, or an error by its code."""

# A tuple for each in a list takes as long, and NumPy longer to read them.
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
        "window": (len(FIGURES), most_bins(classes)),
    }


_Rows: TypeAlias = Mapping[tuple[str, ...], tuple[NDArray[Any], float]]
"""By the values of its labels: the counts of a histogram's buckets, and the sum of what was counted."""


class Metrics:
    """One gateway's figures. It alone writes them; they outlive it."""

    def __init__(self, path: Path, reference: Reference | None = None, task: Task = FASHION_MNIST) -> None:
        """Count on from what is in the file, if it is there. Drift is measured from `reference`, if there is one."""
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
        """Those that the probabilities are of."""
        self.reference = reference
        """What drift is measured from."""
        self._sample: list[tuple[Pixels, Probabilities]] = []
        self._sampled = 0
        self._window = np.empty((len(FIGURES), 0), np.uint16)  # the bins of the last images of the sample
        self._codes = dict.fromkeys(CODES, 0)

    def answer(self, code: str, times: Times) -> None:
        """A request was answered with "ok", or with the error of this code because all its images are bad."""
        self._codes[code] += 1
        _write_times(self._written, _TIMES.size * self._answers, *times)
        self._answers += 1
        if self._answers == AT_ONCE:
            self._count_requests()

    def refuse(self, code: str) -> None:
        """A request was refused with the error of this code."""
        self._codes[code] += 1

    def batch(self, images: Pixels, probabilities: Probabilities) -> None:
        """The engine answered a batch."""
        self.other_batch(probabilities)
        # More than the window holds need not be kept until it is counted.
        if self.reference is not None and self._sampled < self.reference.window:
            if (step := -(-len(images) // SAMPLED)) > 1:
                # Copied, so that the whole batch need not be kept.
                images, probabilities = images[::step].copy(), probabilities[::step]
            self._sample.append((images, probabilities))
            self._sampled += len(images)

    def other_batch(self, probabilities: Probabilities) -> None:
        """The engine of a version that is not the default answered a batch: drift is not measured of it."""
        self._probabilities.append(probabilities)
        self._images += len(probabilities)
        if self._images >= AT_ONCE:
            self._count_predictions()

    def watch(self, reference: Reference | None) -> None:
        """Measure drift from another reference, and of what comes from now on."""
        self.reference = reference
        self._sample.clear()
        self._sampled = 0
        self._window = self._window[:, :0]
        self._found["window"][:] = 0

    def gauges(self, *values: float) -> None:
        """How things stand: see GAUGES."""
        self._found["gauges"][:] = values

    def count(self) -> None:
        """Count what was kept; to be called now and then."""
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
    """The files of the figures of all gateways of a server, whose own folder this is."""
    return [folder / f"metrics-{place}" for place in range(gateways)]


def totals(paths: Sequence[Path], task: Task = FASHION_MNIST) -> dict[str, NDArray[np.float64]]:
    """The figures of all gateways together, by name; those that are not there yet have none."""
    found = [_open(path, "r", task) for path in paths if path.exists()]
    return {name: sum((each[name] for each in found), np.zeros(shape)) for name, shape in _shapes(task).items()}


def families(paths: Sequence[Path], reference: Reference | None = None, task: Task = FASHION_MNIST) -> Iterator[Metric]:
    """The figures of all gateways together, for Prometheus; `reference` is what the gateways measure drift from."""
    total = totals(paths, task)

    requests = CounterMetricFamily("serving_requests", "Requests by what came of them.", labels=["code"])
    for code, value in zip(CODES, total["codes"], strict=True):
        requests.add_metric([code], value)
    yield requests

    yield _histogram(
        "serving_request_seconds",
        "From a request's first byte to its answer, those that were predicted.",
        SECONDS,
        {(): (total["times"][0], total["time_sums"][0])},
    )
    yield _histogram(
        "serving_stage_seconds",
        "What a request's time went to; parse is also the time in which its bytes came.",
        SECONDS,
        {(stage,): (total["times"][place], total["time_sums"][place]) for place, stage in enumerate(STAGES, 1)},
        ["stage"],
    )
    batches: _Rows = {(): (total["batches"], total["batch_sum"][0])}
    yield _histogram("serving_batch_images", "Images of a batch.", IMAGES, batches)
    confidence: _Rows = {(): (total["confidence"], total["confidence_sum"][0])}
    yield _histogram("serving_confidence", "Probability of the likeliest class.", CONFIDENCE, confidence)

    predictions = CounterMetricFamily("serving_predictions", "Images by their likeliest class.", labels=["label"])
    for label, value in zip(task.classes, total["classes"], strict=True):
        predictions.add_metric([label], value)
    yield predictions

    helps = (
        "Gateways whose engine answers.",
        "Open connections.",
        "Images in line for the engine.",
        "Bytes of bodies that are being received or wait for their answers.",
    )
    for name, help, value in zip(GAUGES, helps, total["gauges"], strict=True):
        yield GaugeMetricFamily(f"serving_{name}", help, value=value)
    if reference is not None:
        yield from _drift(total["window"], reference)


def version_families(listed: Sequence[Mapping[str, Any]]) -> Iterator[Metric]:
    """The figures of each version of the model; see `gateway.process.rollout.Rollout.listed`."""
    requests = CounterMetricFamily(
        "serving_version_requests", "Requests that a version of the model answered.", labels=["version"]
    )
    ready = GaugeMetricFamily("serving_version_ready", "Whether a version is ready.", labels=["version"])
    default = GaugeMetricFamily(
        "serving_version_default", "Whether a version answers requests that name none.", labels=["version"]
    )
    canaries = CounterMetricFamily(
        "serving_version_health_checks",
        "Images of the server's own that a version was asked for, by what came of them.",
        labels=["version", "outcome"],
    )
    for row in listed:
        requests.add_metric([row["version"]], row["requests"])
        for outcome, count in row["health_checks"].items():
            canaries.add_metric([row["version"], outcome], count)
        ready.add_metric([row["version"]], row["state"] == "ready")
        default.add_metric([row["version"]], row["default"])
    yield from (requests, ready, default, canaries)


def _drift(window: NDArray[np.float64], reference: Reference) -> Iterator[Metric]:
    images = window[0].sum()
    yield GaugeMetricFamily("serving_drift_images", "Images that drift is measured of.", value=images)
    index = GaugeMetricFamily(
        "serving_drift_psi",
        "Population stability index against the training images; none before there are images enough.",
        labels=["figure"],
    )
    if images >= reference.window:
        for figure, value in zip(FIGURES, reference.index(window), strict=True):
            index.add_metric([figure], value)
    yield index
    threshold = GaugeMetricFamily(
        "serving_drift_threshold", "What the index seldom exceeds where nothing has drifted.", labels=["figure"]
    )
    for figure, value in zip(FIGURES, reference.thresholds, strict=True):
        threshold.add_metric([figure], value)
    yield threshold


def _open(path: Path, mode: Literal["r", "r+"], task: Task) -> dict[str, NDArray[np.float64]]:
    array, shapes = np.memmap(path, np.float64, mode), _shapes(task)
    parts = np.split(array, np.cumsum([math.prod(shape) for shape in shapes.values()])[:-1])
    return {name: part.reshape(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}


def _add(counts: NDArray[np.float64], bounds: Sequence[float], values: NDArray[Any]) -> None:
    """Count values into the buckets that end at `bounds`, and one behind."""
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
