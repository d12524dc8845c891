"""What Prometheus reads is what happened."""

import re
from pathlib import Path

import httpx
import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from fashion_mnist.classes import CLASSES
from fashion_mnist.dataset import Dataset
from gateway.metrics import CODES, IMAGES, SECONDS, STAGES, Metrics, families
from tests.gateway.command import ServeCommand, wait_until

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scrape(command: ServeCommand) -> Samples:
    text = httpx.get(f"http://127.0.0.1:{command.state().admin_port}/metrics", timeout=10).text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_request_is_counted(embedded: ServeCommand, dataset: Dataset) -> None:
    # The canary that made it ready is the first to be counted.
    wait_until(lambda: scrape(embedded)["fashion_mnist_requests_total", (("code", "ok"),)] > 0, "the first request", 10)
    before = scrape(embedded)
    images = dataset.test.images[:30]
    found = [httpx.post(embedded.url, content=image.tobytes(), timeout=10).json() for image in images]
    httpx.post(embedded.url, content=images.tobytes(), timeout=10)
    httpx.post(embedded.url, content=b"1", timeout=10)

    def grown(name: str, **labels: str) -> float:
        key = (name, tuple(sorted(labels.items())))
        return scrape(embedded)[key] - before[key]

    # The last of them: what is counted is counted in order.
    wait_until(lambda: grown("fashion_mnist_requests_total", code="bad_length") == 1, "the last request", 10)
    assert grown("fashion_mnist_requests_total", code="ok") == 31
    assert grown("fashion_mnist_request_seconds_count") == 31
    for stage in STAGES:
        assert grown("fashion_mnist_stage_seconds_count", stage=stage) == 31
    labels = [answer["predictions"][0]["label"] for answer in found]
    for label in set(labels):
        assert grown("fashion_mnist_predictions_total", label=label) == 2 * labels.count(label)
    assert grown("fashion_mnist_confidence_count") == 60
    assert grown("fashion_mnist_batch_images_sum") == 60
    assert grown("fashion_mnist_request_seconds_sum") > 0


def test_how_things_stand(in_front: ServeCommand) -> None:
    wait_until(lambda: scrape(in_front)["fashion_mnist_ready", ()] == 1, "ready", 10)
    assert scrape(in_front)["fashion_mnist_waiting_images", ()] == 0


def test_figures_of_all_gateways_are_one_and_outlive_them(tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    probabilities = np.eye(10, dtype=np.float32)[:3]
    for path in [*paths, paths[0]]:  # the first one is restarted
        metrics = Metrics(path)
        metrics.answer("ok", (0.002, 0.0, 0.0, 0.0, 0.002, 0.0))
        metrics.refuse("overloaded")
        metrics.batch(probabilities)
        metrics.count()
        metrics.count()
    found = {
        (sample.name, *sample.labels.values()): sample.value for family in families(paths) for sample in family.samples
    }
    assert found["fashion_mnist_requests_total", "ok"] == 3
    assert found["fashion_mnist_requests_total", "overloaded"] == 3
    assert found["fashion_mnist_request_seconds_bucket", "0.001"] == 0
    assert found["fashion_mnist_request_seconds_bucket", "0.0025"] == 3
    assert found["fashion_mnist_stage_seconds_sum", "engine"] == 0.006
    assert found["fashion_mnist_predictions_total", CLASSES[2]] == 3
    assert found["fashion_mnist_batch_images_bucket", str(float(IMAGES[1]))] == 0
    assert found["fashion_mnist_batch_images_sum",] == 9
    assert found["fashion_mnist_confidence_bucket", "+Inf"] == 9


def test_every_code_and_bucket_has_a_place() -> None:
    assert {"ok", "overloaded", "unavailable", "internal_error", "corrupt_image", "head_too_large"} <= set(CODES)
    assert SECONDS[0] == 1e-4
    assert SECONDS[-1] == 1.0


def test_logs_are_json_and_hold_nothing_that_was_sent(embedded: ServeCommand) -> None:
    httpx.post(embedded.url, content=b"a secret picture", headers={"content-type": "image/png"}, timeout=10)
    said = embedded.said()
    assert "secret" not in said
    assert re.search(
        r'^\{"level": "WARNING", "logger": "gateway.health", "message": "engine answers"', said, re.MULTILINE
    )
