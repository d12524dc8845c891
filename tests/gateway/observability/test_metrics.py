"""What Prometheus reads is what happened."""

import re
from pathlib import Path

import httpx
import numpy as np
import pytest

from fashion_mnist.classes import CLASSES
from fashion_mnist.client.http import Client
from fashion_mnist.data.splits import Dataset
from fashion_mnist.drift import FIGURES, Reference
from fashion_mnist.model_store import model_card
from gateway.observability.metrics import CODES, IMAGES, SECONDS, STAGES, Metrics, families
from tests.support.command import ServeCommand, serve_command, wait_until
from tests.support.samples import scrape


def test_every_request_is_counted(embedded: ServeCommand, dataset: Dataset) -> None:
    # The health check that made it ready is counted first.
    wait_until(lambda: scrape(embedded)["serving_requests_total", (("code", "ok"),)] > 0, "the first request", 10)
    before = scrape(embedded)
    images = dataset.test.images[:30]
    found = [httpx.post(embedded.url, content=image.tobytes(), timeout=10).json() for image in images]
    httpx.post(embedded.url, content=images.tobytes(), timeout=10)
    httpx.post(embedded.url, content=b"1", timeout=10)

    def grown(name: str, **labels: str) -> float:
        key = (name, tuple(sorted(labels.items())))
        return scrape(embedded)[key] - before[key]

    # The last of them: what is counted is counted in order.
    wait_until(lambda: grown("serving_requests_total", code="bad_length") == 1, "the last request", 10)
    assert grown("serving_requests_total", code="ok") == 31
    assert grown("serving_request_seconds_count") == 31
    for stage in STAGES:
        assert grown("serving_stage_seconds_count", stage=stage) == 31
    labels = [answer["predictions"][0]["label"] for answer in found]
    for label in set(labels):
        assert grown("serving_predictions_total", label=label) == 2 * labels.count(label)
    assert grown("serving_confidence_count") == 60
    assert grown("serving_batch_images_sum") == 60
    assert grown("serving_request_seconds_sum") > 0


def test_how_things_stand(in_front: ServeCommand) -> None:
    wait_until(lambda: scrape(in_front)["serving_ready", ()] == 1, "ready", 10)
    assert scrape(in_front)["serving_queued_images", ()] == 0


def test_drift_is_seen_and_its_end_too(tmp_path: Path, dataset: Dataset, model_store: Path) -> None:
    """Images that are like those of the training stay below the thresholds; darker ones do not."""
    reference = Reference.from_card(model_card(model_store))
    assert reference is not None
    thresholds = dict(zip(FIGURES, reference.thresholds, strict=True))
    images = dataset.test.images[:1000]
    with serve_command(tmp_path, "--engine", "embedded") as command:
        wait_until(lambda: command.times_ready() == 1, "ready")
        found = scrape(command)
        assert not [name for name, _ in found if name == "serving_drift_psi"]
        assert found["serving_drift_threshold", (("figure", "class"),)] == thresholds["class"]

        def send(batch: np.ndarray) -> None:
            with Client(command.url) as client:
                for start in range(0, len(batch), 8):
                    client.predict(batch[start : start + 8])

        def index(figure: str) -> float:
            return scrape(command).get(("serving_drift_psi", (("figure", figure),)), np.nan)

        send(images)
        wait_until(lambda: scrape(command)["serving_drift_images", ()] == 1000, "a window of images", 10)
        assert all(index(figure) < thresholds[figure] for figure in FIGURES)
        send(images // 2)
        wait_until(lambda: index("brightness") > 10 * thresholds["brightness"], "drift", 10)
        assert index("confidence") > thresholds["confidence"]
        send(images)
        wait_until(lambda: all(index(figure) < thresholds[figure] for figure in FIGURES), "its end", 10)


def test_a_large_batch_is_watched_by_a_sample(tmp_path: Path, dataset: Dataset, model_store: Path) -> None:
    reference = Reference.from_card(model_card(model_store))
    assert reference is not None
    path = tmp_path / "metrics"
    metrics = Metrics(path, reference)
    for size in (1, 8, 9, 256):
        metrics.batch(dataset.test.images[:size], np.eye(10, dtype=np.float32)[np.arange(size) % 10])
        metrics.count()
    found = {sample.name: sample.value for family in families([path], reference) for sample in family.samples}
    assert found["serving_drift_images"] == 1 + 8 + 5 + 8
    assert found["serving_batch_images_sum"] == 1 + 8 + 9 + 256


def test_all_is_counted_however_much_comes_between_two_counts(tmp_path: Path, model_store: Path) -> None:
    reference = Reference.from_card(model_card(model_store))
    assert reference is not None
    path = tmp_path / "metrics"
    metrics = Metrics(path, reference)
    probabilities = np.eye(10, dtype=np.float32)[np.arange(7) % 10]
    for _ in range(1000):
        metrics.batch(np.zeros((7, 28, 28), np.uint8), probabilities)
        for _ in range(7):
            metrics.answer("ok", (0.002, 0.0, 0.0, 0.0, 0.002, 0.0))
    metrics.count()
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in families([path], reference)
        for sample in family.samples
    }
    assert found["serving_requests_total", "ok"] == 7000
    assert found["serving_request_seconds_count",] == 7000
    assert found["serving_stage_seconds_sum", "engine"] == pytest.approx(14)
    assert found["serving_batch_images_count",] == 1000
    assert found["serving_predictions_total", CLASSES[6]] == 1000
    assert found["serving_drift_images",] == reference.window


def test_figures_of_all_gateways_are_one_and_outlive_them(tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    probabilities = np.eye(10, dtype=np.float32)[:3]
    for path in [*paths, paths[0]]:  # the first one is restarted
        metrics = Metrics(path)
        metrics.answer("ok", (0.002, 0.0, 0.0, 0.0, 0.002, 0.0))
        metrics.refuse("overloaded")
        metrics.batch(np.zeros((3, 28, 28), np.uint8), probabilities)
        metrics.count()
        metrics.count()
    found = {
        (sample.name, *sample.labels.values()): sample.value for family in families(paths) for sample in family.samples
    }
    assert found["serving_requests_total", "ok"] == 3
    assert found["serving_requests_total", "overloaded"] == 3
    assert found["serving_request_seconds_bucket", "0.001"] == 0
    assert found["serving_request_seconds_bucket", "0.0025"] == 3
    assert found["serving_stage_seconds_sum", "engine"] == 0.006
    assert found["serving_predictions_total", CLASSES[2]] == 3
    assert found["serving_batch_images_bucket", str(float(IMAGES[1]))] == 0
    assert found["serving_batch_images_sum",] == 9
    assert found["serving_confidence_bucket", "+Inf"] == 9


def test_every_code_and_bucket_has_a_place() -> None:
    assert {"ok", "overloaded", "unavailable", "internal_error", "corrupt_image", "head_too_large"} <= set(CODES)
    assert SECONDS[0] == 1e-4
    assert SECONDS[-1] == 1.0


def test_logs_are_json_and_hold_nothing_that_was_sent(embedded: ServeCommand) -> None:
    httpx.post(embedded.url, content=b"a secret picture", headers={"content-type": "image/png"}, timeout=10)
    said = embedded.said()
    assert "secret" not in said
    assert re.search(
        r'^\{"level": "INFO", "logger": "gateway.models.health", "message": "engine answers"', said, re.MULTILINE
    )
