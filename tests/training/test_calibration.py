"""The temperature: found again where it is known."""

import numpy as np
import pytest

from training.calibration import fit_temperature


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_that_logits_were_scaled_by_is_found(temperature: float) -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 2, (20_000, 10))
    # Labels drawn by the probabilities of these logits: they are calibrated as they are.
    labels = (logits + generator.gumbel(size=logits.shape)).argmax(axis=1).astype(np.uint8)
    assert fit_temperature(temperature * logits, labels) == pytest.approx(temperature, rel=0.05)


def test_the_temperature_is_that_of_the_least_loss() -> None:
    generator = np.random.default_rng(1)
    logits = generator.normal(0, 3, (500, 10))
    labels = np.where(generator.random(500) < 0.7, logits.argmax(axis=1), 0).astype(np.uint8)

    def loss(temperature: float) -> float:
        scaled = logits / temperature
        return float(np.mean(np.logaddexp.reduce(scaled, axis=1) - scaled[np.arange(500), labels]))

    found = fit_temperature(logits, labels)
    assert loss(found) <= min(loss(found * 0.98), loss(found * 1.02))


def test_answers_that_are_always_right_take_the_lowest_temperature() -> None:
    logits = 0.5 * np.eye(10)
    assert fit_temperature(logits, np.arange(10, dtype=np.uint8)) == pytest.approx(1 / 20, rel=1e-3)
