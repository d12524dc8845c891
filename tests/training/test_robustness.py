"""What is done to test images: as much as it says, and less accurate answers where it is more."""

import itertools

import numpy as np
import pytest

from fashion_mnist.dataset import Dataset, Split
from fashion_mnist.engines import load_file
from fashion_mnist.model_store import model_store_path
from fashion_mnist.settings import Settings
from training.robustness import CHANGES, blur, contrast, inversion, noise, robustness, rotation, shift


@pytest.fixture(scope="module")
def few(dataset: Dataset) -> Split:
    return Split(dataset.test.images[:1000], dataset.test.labels[:1000])


@pytest.mark.parametrize(("change", "nothing"), [(shift, 0), (rotation, 0), (noise, 0), (contrast, 1), (inversion, 0)])
def test_at_no_strength_nothing_changes(few: Split, change: object, nothing: float) -> None:
    assert callable(change)
    assert np.array_equal(change(few.images, nothing), few.images)


def test_changes_are_what_they_say(few: Split) -> None:
    images = few.images
    moved = shift(images, 2)
    assert np.array_equal(moved[0, :-2, :-2], images[0, 2:, 2:])
    assert np.array_equal(rotation(images, 90)[0], np.rot90(images[0]))
    assert np.array_equal(inversion(images, 1), 255 - images)
    spread = (noise(np.full_like(images, 128), 25).astype(float) - 128).std()
    assert spread == pytest.approx(25, rel=0.02)
    assert contrast(images, 0.5)[0].astype(float).std() == pytest.approx(images[0].std() / 2, rel=0.02)
    steps = [np.abs(np.diff(found[0].astype(float))).sum() for found in (images, blur(images, 0.5), blur(images, 1.5))]
    assert steps[0] > steps[1] > steps[2]


def test_more_of_a_change_is_not_easier(few: Split) -> None:
    engine = load_file(model_store_path(Settings()) / "model.onnx", "cpu")
    rows = robustness({"released": engine.predict}, few)
    assert (rows[0]["change"], len(rows)) == ("none", 1 + sum(len(strengths) for _, _, strengths, _ in CHANGES))
    for name, _, _, _ in CHANGES:
        accuracies = [row["accuracies"]["released"] for row in rows if row["change"] in ("none", name)]
        assert accuracies[0] > accuracies[-1]
        assert all(low <= high + 0.02 for high, low in itertools.pairwise(accuracies))
