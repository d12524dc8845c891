"""A run starts without torch's compiler, which no recipe needs."""

import subprocess
import sys

import pytest

_PROGRAM = """
import sys
import numpy as np, torch
from fashion_mnist.data.splits import Split
from training.loop import Trainer
from training.recipes import recipe_named
images = np.random.default_rng(0).integers(0, 256, (1024, 1, 28, 28), np.uint8)
split = Split(images, np.arange(1024).astype(np.uint8) % 10)
trainer = Trainer(recipe_named(sys.argv[1]), split, seed=0, device=torch.device("cpu"))
trainer.run_epoch()
trainer.restore(trainer.state())
print("torch._dynamo" in sys.modules, "matplotlib" in sys.modules)
"""


@pytest.mark.parametrize("recipe", ["course", "quick"])
def test_an_epoch_imports_neither_the_compiler_nor_matplotlib(recipe: str) -> None:
    command = [sys.executable, "-c", _PROGRAM, recipe]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == ["False", "False"]
