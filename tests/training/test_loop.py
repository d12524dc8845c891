"""The loop's own arithmetic."""

import numpy as np
import pytest

from training.loop import mean_and_deviation


@pytest.mark.parametrize("gamma", [1.0, 0.5])
@pytest.mark.parametrize("count", [1, 700])
def test_mean_and_deviation_are_those_of_the_powers(gamma: float, count: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 28, 28), dtype=np.uint8) // 3
    powers = (pixels / 255) ** gamma
    np.testing.assert_allclose(mean_and_deviation(pixels, gamma), (powers.mean(), powers.std()), rtol=1e-9)
