"""The loop's own arithmetic."""

import numpy as np
import pytest

from training.loop import mean_and_deviation


@pytest.mark.parametrize("gamma", [1.0, 0.5])
@pytest.mark.parametrize("count", [1, 700])
def test_each_channel_has_the_mean_and_deviation_of_its_powers(gamma: float, count: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (count, 3, 28, 28), dtype=np.uint8) // 3
    images[:, 1] //= 2
    powers = (images / 255) ** gamma
    mean, deviation = mean_and_deviation(images, gamma)
    np.testing.assert_allclose(mean, powers.mean((0, 2, 3)), rtol=1e-9)
    np.testing.assert_allclose(deviation, powers.std((0, 2, 3)), rtol=1e-9)
