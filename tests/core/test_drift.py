"""Drift: the index is the formula's, and a card's reference is what was put into it."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fashion_mnist.drift import BINS, CARD_SECTION, FIGURES, Reference, brightness, counts
from fashion_mnist.errors import ModelError

EDGES = np.tile(np.linspace(0.1, 0.9, BINS - 1), (2, 1)) * [[1], [255]]
EVEN = Reference(10, EDGES, np.full((3, BINS), 0.1), np.array([0.1, 0.2, 0.3]), 100)


def test_the_index_is_what_one_computes_by_hand() -> None:
    found = np.full((3, BINS), 10.0)
    found[1, :2] = 20, 0
    # Of the two bins that differ: (0.2 - 0.1) ln 2 + (0.0001 - 0.1) ln 0.001.
    np.testing.assert_allclose(EVEN.index(found), [0, 0.1 * np.log(2) + 0.0999 * np.log(1000), 0], atol=1e-12)


@given(arrays(np.int64, (3, BINS), elements=st.integers(0, 10**6)))
def test_no_distribution_is_nearer_than_the_same(found: np.ndarray) -> None:
    found[:, 0] += 1
    index = EVEN.index(found.astype(np.float64))
    assert (index >= 0).all()
    np.testing.assert_allclose(EVEN.index(found * 7.0), index, atol=1e-9)


def test_each_image_falls_into_its_bins() -> None:
    probabilities = np.zeros((3, 10), np.float32)
    probabilities[[0, 1, 2], [0, 9, 5]] = 0.05, 0.55, 1.0
    images = np.zeros((3, 28, 28), np.uint8)
    images[1], images[2, 0] = 255, 28
    assert brightness(images).tolist() == [0, 255, 1]
    bins = EVEN.bins(probabilities, brightness(images))
    assert bins.tolist() == [[0, 9, 5], [0, 5, 9], [0, 9, 0]]
    assert counts(bins).sum(axis=1).tolist() == [3, 3, 3]
    assert counts(bins)[2].tolist() == [2, 0, 0, 0, 0, 0, 0, 0, 0, 1]


def test_the_card_gives_back_what_it_was_given() -> None:
    found = Reference.from_card(json.loads(json.dumps({CARD_SECTION: EVEN.to_card()})))
    assert found is not None
    for name in ("edges", "shares", "thresholds", "window"):
        np.testing.assert_array_equal(getattr(found, name), getattr(EVEN, name))
    assert Reference.from_card({}) is None


@pytest.mark.parametrize(
    "change", [{"edges": {}}, {"shares": dict.fromkeys(FIGURES, (1,))}, {"thresholds": None}, {"window": 0}], ids=str
)
def test_a_damaged_card_says_what_to_do(change: dict[str, object]) -> None:
    with pytest.raises(ModelError, match="fashion-mnist export"):
        Reference.from_card({CARD_SECTION: EVEN.to_card() | change})
