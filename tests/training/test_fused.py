"""The fused kernels compute what PyTorch's operations compute, in both directions."""

import itertools
import pwd
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fashion_mnist.data.splits import Dataset, Split
from fashion_mnist.errors import UsageError
from fashion_mnist.network import Classifier, Network
from training import fused, runs
from training.augment import move
from training.recipes import QUICK

CPU = torch.device("cpu")

pytestmark = pytest.mark.skipif(fused.unavailable(Network(), CPU) is not None, reason="needs a C++ compiler")


@pytest.fixture
def classifier() -> Classifier:
    torch.manual_seed(0)
    return Classifier(Network(), mean=0.286, std=0.353, gamma=0.5)


@pytest.fixture
def batch() -> tuple[Tensor, Tensor, Tensor]:
    """Images, those chosen of them, and every move of up to two pixels: more than one chunk, and a part of one."""
    images = torch.randint(0, 256, (90, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    moves = list(itertools.product((0, 1), range(-2, 3), range(-2, 3))) * 2
    return images, torch.arange(len(moves)) % 90, torch.tensor(moves, dtype=torch.int8)


def gradients(classifier: Classifier, features: Tensor) -> list[Tensor]:
    network = classifier.network
    parameters = [*network.conv1.parameters(), *network.conv2.parameters()]
    direction = torch.randn(features.shape, generator=torch.Generator().manual_seed(2))
    return list(torch.autograd.grad(features, parameters, direction))


def test_features_and_gradients_are_pytorchs(classifier: Classifier, batch: tuple[Tensor, Tensor, Tensor]) -> None:
    images, chosen, moves = batch
    expected = classifier.network.features(classifier.normalise(move(images[chosen], moves)))
    found = fused.features(images, chosen, moves, classifier)
    torch.testing.assert_close(found, expected)
    for ours, theirs in zip(gradients(classifier, found), gradients(classifier, expected), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * theirs.abs().max().item())


def test_wider_networks_are_taken_too(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    torch.manual_seed(0)
    wide = Classifier(Network(conv1_out=12, conv2_out=18), mean=0.286, std=0.353)
    assert fused.unavailable(wide.network, CPU) is None
    images, chosen, moves = batch
    expected = wide.network.features(wide.normalise(move(images[chosen], moves)))
    found = fused.features(images, chosen, moves, wide)
    torch.testing.assert_close(found, expected)
    for ours, theirs in zip(gradients(wide, found), gradients(wide, expected), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * theirs.abs().max().item())


def test_the_number_of_threads_changes_no_digit(classifier: Classifier, batch: tuple[Tensor, Tensor, Tensor]) -> None:
    alone = fused.features(*batch, classifier)
    with ThreadPoolExecutor(3) as pool:
        shared = fused.features(*batch, classifier, pool)
        assert torch.equal(alone, shared)
        for one, other in zip(gradients(classifier, alone), gradients(classifier, shared), strict=True):
            assert torch.equal(one, other)


def test_a_run_learns_the_same_with_either_kernels(dataset: Dataset, tmp_path: Path) -> None:
    small = Dataset(dataset.train, Split(dataset.test.images[:2000], dataset.test.labels[:2000]))
    recipe = replace(QUICK, epochs=2, shift=1)
    found = {
        kernels: runs.train(recipe, small, tmp_path / kernels, device="cpu", kernels=kernels, train_images=8000)
        for kernels in ("fused", "torch")
    }
    assert {kernels: summary["kernels"] for kernels, summary in found.items()} == {"fused": "fused", "torch": "torch"}
    assert found["fused"]["test_accuracy"] == pytest.approx(found["torch"]["test_accuracy"], abs=0.03)
    assert found["fused"]["test_accuracy"] > 0.6


def test_a_run_goes_on_with_the_kernels_it_was_begun_with(dataset: Dataset, tmp_path: Path) -> None:
    small = Dataset(dataset.train, Split(dataset.test.images[:100], dataset.test.labels[:100]))
    recipe = replace(QUICK, epochs=1)
    runs.train(recipe, small, tmp_path / "run", device="cpu", kernels="torch", train_images=1000)
    summary = runs.train(recipe, small, tmp_path / "run", device="cpu", train_images=1000, resume=True)
    assert summary["kernels"] == "torch"


def test_what_they_cannot_do_says_so(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"ReLU.*gelu.*--kernels torch"):
        runs.train(replace(QUICK, activation="gelu"), dataset, tmp_path / "run", device="cpu", kernels="fused")
    with pytest.raises(UsageError, match="auto, fused, torch"):
        runs.train(QUICK, dataset, tmp_path / "run", device="cpu", kernels="numba")
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UsageError, match=r"install g\+\+"):
        runs.train(QUICK, dataset, tmp_path / "run", device="cpu", kernels="fused")


@pytest.fixture
def afresh(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Nothing is loaded yet, as in a process that begins."""
    monkeypatch.setattr(fused, "_kernels", fused._kernels.__wrapped__)
    return monkeypatch


def compiler(folder: Path, script: str) -> str:
    path = folder / "compiler"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo no such option >&2; exit 1", r"cannot compile fused\.cpp \(no such option\)"),
        ("exit 0", "No such file"),
        ('for last; do :; done; case "$last" in *.so) echo nonsense > "$last";; esac', r"file too short|invalid ELF"),
        ('for last; do :; done; case "$last" in *.so) echo | g++ -x c++ -shared -fPIC - -o "$last";; esac', "forward"),
    ],
    ids=["refuses", "writes nothing", "writes no library", "writes another library"],
)
def test_a_compiler_that_is_no_gpp_is_one_line(
    script: str, said: str, afresh: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    afresh.setenv("CXX", compiler(tmp_path, script))
    afresh.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    reason = fused.unavailable(Network(), CPU)
    assert reason is not None
    assert re.search(said, reason)
    (line,) = caplog.messages
    assert reason in line
    assert "\n" not in line


def test_a_cache_that_cannot_be_used_is_one_line(
    afresh: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    afresh.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert fused.unavailable(Network(), CPU) == f"{tmp_path}/file/fashion-mnist: Not a directory"
    assert len(caplog.messages) == 1


def test_a_user_without_a_home_is_one_line(afresh: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def nobody(_: int) -> None:
        raise KeyError("getpwuid(): uid not found: 12345")

    for name in ("HOME", "XDG_CACHE_HOME"):
        afresh.delenv(name, raising=False)
    afresh.setattr(pwd, "getpwuid", nobody)
    assert "home directory" in (fused.unavailable(Network(), CPU) or "")
    assert len(caplog.messages) == 1


def test_auto_trains_all_the_same(dataset: Dataset, tmp_path: Path, afresh: pytest.MonkeyPatch) -> None:
    afresh.setenv("CXX", "false")
    small = Dataset(dataset.train, Split(dataset.test.images[:100], dataset.test.labels[:100]))
    recipe = replace(QUICK, epochs=1)
    summary = runs.train(recipe, small, tmp_path / "run", device="cpu", train_images=1000)
    assert summary["kernels"] == "torch"
    with pytest.raises(UsageError, match=r"false cannot compile fused\.cpp.*--kernels torch"):
        runs.train(recipe, small, tmp_path / "other", device="cpu", kernels="fused", train_images=1000)
