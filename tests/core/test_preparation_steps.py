"""The pictures of preparation's steps: one for each that there is something to see of, and no other answer."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fashion_mnist.data.splits import Dataset
from fashion_mnist.preparation import MODES, Mode, prepare
from fashion_mnist.preparation.steps import LONGER_SIDE, ORIGINAL, Steps
from fashion_mnist.task import FASHION_MNIST
from training.photographs import photograph, read


def test_a_photograph_is_shown_step_by_step(dataset: Dataset) -> None:
    pixels = read(photograph([dataset.test.images[0, 0]], "mixed", 3))
    steps = Steps()
    prepared, done = prepare(pixels, None, FASHION_MNIST, "auto", steps=steps)
    shown = [step.name for step in steps.pictures]
    assert shown == [ORIGINAL, *(name for name in done if not name.startswith("resized"))]
    assert {"background removed", "contrast stretched"} <= set(shown)
    assert steps.pictures[-1].pixels.max() > 200
    for step in steps.pictures:
        assert step.pixels.dtype == np.uint8
        assert max(step.pixels.shape) <= LONGER_SIDE
    np.testing.assert_array_equal(prepared, prepare(pixels, None, FASHION_MNIST, "auto")[0])


def test_what_is_transparent_is_shown_so() -> None:
    pixels, alpha = np.full((40, 30), 90, np.uint8), np.zeros((40, 30), np.uint8)
    alpha[10:30, 10:20] = 255
    steps = Steps()
    prepare(pixels, alpha, FASHION_MNIST, "none", steps=steps)
    original, laid = steps.pictures
    np.testing.assert_array_equal(original.pixels[:, :, 3], alpha)
    assert laid.name == "transparency laid over black"
    np.testing.assert_array_equal(laid.pixels, np.where(alpha > 0, 90, 0))


@settings(max_examples=60, deadline=None)
@given(data=st.data(), mode=st.sampled_from(MODES))
def test_watching_changes_nothing(data: Any, mode: Mode) -> None:
    height, width = data.draw(st.tuples(st.integers(1, 60), st.integers(1, 300)))
    shape = data.draw(st.sampled_from([(height, width), (height, width, 3)]))
    pixels = data.draw(arrays(np.uint8, shape, elements=st.integers(0, 255), fill=st.integers(0, 255)))
    alpha = data.draw(st.none() | arrays(np.uint8, (height, width), fill=st.sampled_from([0, 255])))
    steps = Steps()
    watched, done = prepare(pixels, alpha, FASHION_MNIST, mode, steps=steps)
    unwatched, also_done = prepare(pixels, alpha, FASHION_MNIST, mode)
    np.testing.assert_array_equal(watched, unwatched)
    assert done == also_done
    assert [step.name for step in steps.pictures[1:]] == [
        name for name in done if name in {step.name for step in steps.pictures}
    ]


@pytest.mark.parametrize("mode", ["always", "paper"])
def test_an_image_of_the_network_s_size_is_shown_too(mode: Mode, dataset: Dataset) -> None:
    steps = Steps()
    _, done = prepare(dataset.test.images[1, 0], None, FASHION_MNIST, mode, steps=steps)
    assert steps.pictures[0].name == ORIGINAL
    assert {step.name for step in steps.pictures[1:]} <= set(done)
