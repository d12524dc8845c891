"""What is done at random to the images of an epoch: as many as asked, the same for the same draws, and no more."""

import numpy as np
import pytest

from fashion_mnist.data.splits import Dataset
from training.perturb import SMALL, affine, corrupt


@pytest.fixture(scope="module")
def images(dataset: Dataset) -> np.ndarray:
    return dataset.train.images[:1000]


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_so_many_images_are_changed_and_none_in_place(images: np.ndarray, share: float) -> None:
    before = images.copy()
    for found in (
        affine(images, share, SMALL, np.random.default_rng(0)),
        corrupt(images, share, np.random.default_rng(0)),
    ):
        assert found.shape == images.shape
        assert found.dtype == np.uint8
        assert (found != images).any(axis=(1, 2, 3)).mean() == pytest.approx(share, abs=0.06)
    assert np.array_equal(images, before)


def test_the_same_draws_give_the_same_images(images: np.ndarray) -> None:
    one, same, other = (corrupt(images, 0.5, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_a_small_affine_map_moves_an_image_little(images: np.ndarray) -> None:
    found = affine(images, 1.0, SMALL, np.random.default_rng(0))
    alike = [np.corrcoef(one.ravel(), other.ravel())[0, 1] for one, other in zip(images, found, strict=True)]
    assert np.median(alike) > 0.8
