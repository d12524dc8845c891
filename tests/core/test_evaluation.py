"""Calibration figures, against answers whose error is known."""

import numpy as np
import pytest

from fashion_mnist.evaluation import BINS, calibration


def answers(confidence: float, right: int, wrong: int) -> tuple[np.ndarray, np.ndarray]:
    """So many right and wrong answers, all class 0, of one confidence."""
    probabilities = np.full((right + wrong, 10), (1 - confidence) / 9, np.float32)
    probabilities[:, 0] = confidence
    return probabilities, np.repeat(np.array([0, 1], np.uint8), [right, wrong])


def test_what_keeps_its_word_has_no_error() -> None:
    assert calibration(*answers(0.75, 75, 25))["expected_error"] == pytest.approx(0, abs=1e-6)


def test_the_error_is_the_mean_distance_weighted_by_images() -> None:
    sure, unsure = answers(0.95, 70, 30), answers(0.5, 40, 10)
    found = calibration(np.concatenate([sure[0], unsure[0]]), np.concatenate([sure[1], unsure[1]]))
    assert found["expected_error"] == pytest.approx((100 * 0.25 + 50 * 0.3) / 150, abs=1e-6)
    bins = {row["up_to"]: row for row in found["bins"] if row["images"]}
    assert [(row["images"], row["accuracy"]) for row in bins.values()] == [(50, 0.8), (100, 0.7)]
    assert sum(row["images"] for row in found["bins"]) == 150


def test_bins_are_equally_wide_and_take_their_upper_edge() -> None:
    probabilities = np.zeros((2, 10), np.float32)
    probabilities[0, 3] = 1
    probabilities[1, :2] = 0.5
    found = calibration(probabilities, np.array([3, 0], np.uint8))
    assert len(found["bins"]) == BINS == 15
    assert [row["images"] for row in found["bins"]] == [0] * 7 + [1] + [0] * 6 + [1]


def test_the_likelihood_is_that_of_the_true_class() -> None:
    probabilities, labels = answers(0.8, 3, 1)
    expected = -(3 * np.log(0.8) + np.log(0.2 / 9)) / 4
    assert calibration(probabilities, labels)["negative_log_likelihood"] == pytest.approx(expected, abs=1e-5)
