"""Many seeds at once: each network comes out as it does alone."""

from dataclasses import replace

import pytest
import torch

from fashion_mnist.data.splits import Dataset, Split
from fashion_mnist.errors import TrainingError, UsageError
from training import many_seeds
from training.loop import Trainer
from training.many_seeds import ManySeeds
from training.recipes import COURSE, QUICK, RELEASE, SUPERVISED, TEACHER, Recipe

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def few(dataset: Dataset) -> Split:
    return Split(dataset.train.images[:600], dataset.train.labels[:600])


@pytest.mark.parametrize(
    "recipe", [replace(QUICK, shift=1, batch_size=100), replace(COURSE, learning_rate=1e-3)], ids=lambda each: each.name
)
def test_each_network_comes_out_as_it_does_alone(few: Split, recipe: Recipe) -> None:
    recipe = replace(recipe, epochs=2)
    many = ManySeeds(recipe, few, seeds=(3, 5), device=CPU)
    for _ in range(2):
        many.run_epoch()
    for seed, found in zip((3, 5), many.results(), strict=True):
        trainer = Trainer(recipe, few, seed=seed, device=CPU)
        for _ in range(2):
            trainer.run_epoch()
        expected = trainer.result()
        assert found.state_dict().keys() == expected.state_dict().keys()
        for name, tensor in expected.state_dict().items():
            torch.testing.assert_close(found.state_dict()[name], tensor, rtol=1e-2, atol=2e-3)


def test_it_prints_the_spread(
    dataset: Dataset, few: Split, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("training.runs.split", lambda train: (few, Split(*(each[600:700] for each in train))))
    monkeypatch.setattr("sys.argv", ["many_seeds", "quick", "2", "1"])
    many_seeds.main()
    said = capsys.readouterr().out
    assert "2 seeds at once" in said
    assert "±" in said


def test_what_is_trained_one_by_one_says_so(few: Split) -> None:
    for recipe in (TEACHER, RELEASE, SUPERVISED):
        with pytest.raises(UsageError, match="seed by seed"):
            ManySeeds(recipe, few, seeds=(0,), device=CPU)
    with pytest.raises(TrainingError, match="fewer than one batch"):
        ManySeeds(QUICK, Split(*(each[:9] for each in few)), seeds=(0,), device=CPU)
