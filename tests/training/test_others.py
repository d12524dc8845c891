"""Images that show no garment: that they are what they claim to be, and how well scores tell them."""

import numpy as np
import pytest

from fashion_mnist.data.splits import Dataset, Split
from fashion_mnist.model_store import model_store_path
from fashion_mnist.network import load_weights
from fashion_mnist.settings import Settings
from training.others import KINDS, cut, digits, turned
from training.unknown import auroc, scores_to_compare, separation


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_drawn_as_asked(dataset: Dataset, kind: str) -> None:
    garments = dataset.test.images[:50, 0]
    before = garments.copy()
    drawn, again = (KINDS[kind](garments, np.random.default_rng(3)) for _ in range(2))
    assert drawn.shape == garments.shape
    assert drawn.dtype == np.uint8
    assert np.array_equal(drawn, again)
    assert np.array_equal(garments, before)
    assert (drawn != garments).any(axis=(1, 2)).all()
    assert len(np.unique(drawn, axis=0)) > 40


def test_digits_lie_within_the_image(dataset: Dataset) -> None:
    drawn = digits(dataset.test.images[:200, 0], np.random.default_rng(0))
    assert drawn[:, :, [0, -1]].max() == drawn[:, [0, -1]].max() == 0
    assert (drawn.max(axis=(1, 2)) > 200).all()


def test_turned_and_cut_garments_keep_their_pixels(dataset: Dataset) -> None:
    garments = dataset.test.images[:100, 0]
    for change in (turned, cut):
        found = change(garments, np.random.default_rng(1))
        assert np.array_equal(np.sort(found.reshape(100, -1)), np.sort(garments.reshape(100, -1)))


def test_the_area_under_the_roc() -> None:
    assert auroc(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 1
    assert auroc(np.array([0.0, 3.0]), np.array([1.0, 2.0])) == 0.5
    assert auroc(np.array([1.0]), np.array([1.0, 1.0, 0.0])) == pytest.approx(2 / 3)


def test_the_score_tells_others_from_garments(dataset: Dataset) -> None:
    few = Split(dataset.test.images[:1000], dataset.test.labels[:1000])
    classifier = load_weights(model_store_path(Settings()) / "weights.pt")
    known, *others = separation(lambda images: scores_to_compare(classifier, images), few, threshold=1.0)
    assert known == {"kind": "test images", "auroc": {}, "flagged": pytest.approx(1, abs=0.01)}
    assert [row["kind"] for row in others] == list(KINDS)
    for row in others:
        assert row["auroc"]["score"] > 0.7
        assert row["auroc"]["score"] > row["auroc"]["doubt"]
