"""The unknown score: what it says of answers that are sure, torn and empty."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from fashion_mnist.decoding.decoded import Decoded
from fashion_mnist.model_store import CARD, model_card, unknown_threshold
from fashion_mnist.ood import unknown_scores
from fashion_mnist.predictions import encode_json

ROWS = np.zeros((3, 10), np.float32)
ROWS[0, 4] = 1
ROWS[1, 2:4] = 0.5
ROWS[2] = 0.1


def test_the_score_counts_the_classes_that_take_part() -> None:
    assert unknown_scores(ROWS) == pytest.approx([1, 2, 10], rel=1e-5)


def test_an_image_alone_has_the_score_that_it_has_among_others() -> None:
    rows = np.random.default_rng(0).dirichlet(np.full(10, 0.1), 50).astype(np.float32)
    assert [unknown_scores(row[None])[0] for row in rows] == pytest.approx(unknown_scores(rows), rel=1e-14)
    assert unknown_scores(rows[:0]) == []


@given(st_numpy.arrays(np.float32, (4, 10), elements=st.floats(0, 1, width=32)))
def test_the_score_is_from_one_to_ten(weights: np.ndarray) -> None:
    weights[:, 0] += 1
    scores = unknown_scores((weights / weights.sum(axis=1, keepdims=True)).astype(np.float32))
    assert all(1 - 1e-5 < score < 10 + 1e-4 for score in scores)


@pytest.mark.parametrize("top_k", [10, 3])
def test_each_prediction_says_whether_its_score_is_above_the_threshold(top_k: int) -> None:
    decoded = Decoded(np.zeros((3, 28, 28), np.uint8), adjusted={1: ["inverted"]})
    predictions = json.loads(encode_json(ROWS, decoded, "1.0", 1.5, top_k))["predictions"]
    assert [prediction["unknown"] for prediction in predictions] == [False, True, True]
    assert [prediction["unknown_score"] for prediction in predictions] == pytest.approx([1, 2, 10], abs=1e-3)
    assert [prediction.get("adjusted") for prediction in predictions] == [None, ["inverted"], None]
    assert [len(prediction["probabilities"]) for prediction in predictions] == [top_k] * 3


def test_the_threshold_is_the_cards(model_store: Path, tmp_path: Path) -> None:
    assert unknown_threshold(model_store) == model_card(model_store)["unknown"]["threshold"]
    (tmp_path / CARD).write_text(json.dumps({"model_version": "1.0"}))
    assert unknown_threshold(tmp_path) == math.inf
