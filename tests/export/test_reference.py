"""The reference for drift: what the training images are like, and how far held-out ones may be from it by chance."""

from pathlib import Path

import numpy as np

from export.reference import WINDOW, fit
from export.release import Release
from fashion_mnist.data.splits import Dataset
from fashion_mnist.drift import BINS, FIGURES, Reference, brightness, counts
from fashion_mnist.engines import open_engine
from fashion_mnist.model_store import model_card


def test_the_card_has_the_reference(exported: Release, model_store: Path) -> None:
    for card in (exported.card, model_card(model_store)):
        reference = Reference.from_card(card)
        assert reference is not None
        np.testing.assert_allclose(reference.shares.sum(axis=1), 1)
        # Bins of equal shares, as far as the figures have as many values.
        np.testing.assert_allclose(reference.shares[2], 1 / BINS, atol=0.001)
        assert reference.window == WINDOW


def test_a_threshold_is_seldom_exceeded_by_chance(exported: Release, dataset: Dataset) -> None:
    reference = Reference.from_card(exported.card)
    assert reference is not None
    engine = open_engine(exported.folder, "onnx", "cpu")
    bins = reference.bins(engine.predict(dataset.test.images), brightness(dataset.test.images))
    generator = np.random.default_rng(7)  # not the draws that it was fitted on
    draws = [bins[:, generator.permutation(len(dataset.test.images))[:WINDOW]] for _ in range(1000)]
    exceeded = np.mean([reference.index(counts(draw)) > reference.thresholds for draw in draws], axis=0)
    assert (exceeded < 0.005).all(), dict(zip(FIGURES, exceeded, strict=True))


def test_the_same_images_give_the_same_reference(dataset: Dataset) -> None:
    def predict(images: np.ndarray) -> np.ndarray:
        rows = images[:, 0, 10:20, 14].astype(np.float32) + 1
        probabilities: np.ndarray = rows / rows.sum(axis=1, keepdims=True)
        return probabilities

    first, second = (fit(predict, dataset.train.images[:5000], dataset.test.images[:2000]).to_card() for _ in range(2))
    assert first == second
