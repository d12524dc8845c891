"""The page of a model's errors: every figure as one computes it by hand, and no other file needed."""

import re
import subprocess
from pathlib import Path

import numpy as np

from fashion_mnist.classes import CLASSES
from fashion_mnist.data.splits import Dataset, Split
from fashion_mnist.engines import load_file
from tests.support.command import COMMAND
from training.errors_page import COVERAGES, coverage, errors_page, suspected_labels


def test_coverage_is_the_accuracy_of_the_most_confident() -> None:
    confidence = np.linspace(0.5, 0.99, 100, dtype=np.float32)
    probabilities = np.zeros((100, 10), np.float32)
    probabilities[:, 0], probabilities[:, 1] = confidence, 1 - confidence
    labels = np.zeros(100, np.uint8)
    labels[:10] = 1
    found = {share: (least, accuracy) for share, least, accuracy in coverage(probabilities, labels)}
    assert tuple(found) == COVERAGES
    np.testing.assert_allclose([found[1.0], found[0.9]], [(0.5, 0.9), (confidence[10], 1.0)], rtol=1e-6)


def test_a_label_is_suspected_where_another_class_is_as_sure_as_in_its_own_images() -> None:
    probabilities = np.full((20, 10), 0.01, np.float32)
    labels = np.repeat([0, 1], 10).astype(np.uint8)
    probabilities[np.arange(20), labels] = 0.9
    probabilities[3, [0, 1]] = 0.02, 0.95
    probabilities[14, [0, 1]] = 0.5, 0.4
    assert suspected_labels(probabilities, labels).tolist() == [3]


def test_the_page_shows_errors_and_differences_and_needs_no_other_file(dataset: Dataset, model_store: Path) -> None:
    test = Split(dataset.test.images[:1000], dataset.test.labels[:1000])
    answers = load_file(model_store / "model.onnx", "cpu").predict(test.images)
    other = answers[:, [1, 0, *range(2, 10)]]
    page = errors_page(test, {"released": answers, "a <worse> one": other}, CLASSES)
    assert not re.search(r'(src|href)="(?!data:|https://arxiv.org)', page)
    for heading in (
        "Coverage and accuracy",
        "Confusions",
        "Hardest",
        "Most confidently wrong",
        "Suspected label errors",
    ):
        assert f"<h2>{heading}</h2>" in page
    right = (answers.argmax(axis=1) == test.labels).mean()
    assert f"{right:.2%} of 1,000 test images" in page
    assert "Differences from a &lt;worse&gt; one" in page
    only = int(((answers.argmax(axis=1) == test.labels) & (other.argmax(axis=1) != test.labels)).sum())
    assert f"{only} images are named correctly only by released" in page
    assert f"{CLASSES[6]} taken for {CLASSES[0]}" in page


def test_the_command_writes_the_page(tmp_path: Path) -> None:
    output = tmp_path / "errors.html"
    subprocess.run([COMMAND, "errors", "--output", str(output)], check=True, capture_output=True, timeout=120)
    assert output.read_text().startswith("<!doctype html>")
