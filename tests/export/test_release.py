"""The release: all its files, what they say, and that a failed export changes none of them."""

import json
import math
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from export import card, release
from export.folding import ForOnnxRuntime
from export.release import Release
from fashion_mnist.classes import CLASSES
from fashion_mnist.data.splits import Dataset
from fashion_mnist.engines import MODEL_FILES, open_engine
from fashion_mnist.errors import ExportError, FashionMNISTError, ModelError, UsageError
from fashion_mnist.model_store import CARD, unknown_threshold
from fashion_mnist.network import Classifier, Network, load_weights, save_weights
from fashion_mnist.system import checksums
from fashion_mnist.task import sample_file


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_file_is_listed_and_whole(exported: Release) -> None:
    listed = set(checksums.read(exported.folder))
    assert listed == set(content(exported.folder)) - {checksums.NAME}
    assert {"weights.pt", *MODEL_FILES.values(), CARD, card.MARKDOWN} <= listed
    command = ["sha256sum", "--check", "--strict", "--quiet", checksums.NAME]
    assert subprocess.run(command, cwd=exported.folder, timeout=30, check=False).returncode == 0


def test_the_released_model_is_what_its_weights_export_to(exported: Release, model_store: Path) -> None:
    for name in ("weights.pt", *MODEL_FILES.values()):
        assert checksums.of(exported.folder / name) == checksums.of(model_store / name), name
    for name in checksums.read(model_store):
        assert checksums.read(model_store)[name] == checksums.of(model_store / name), name


def test_every_engine_agrees_with_the_network_on_the_whole_test_set(exported: Release) -> None:
    assert [parity.engine for parity in exported.parities] == list(MODEL_FILES)
    for parity in exported.parities:
        assert parity.images == 10_000
        assert parity.labels_that_differ == 0
        assert parity.largest_difference <= 1e-5


def test_the_card_tells_the_figures_that_the_model_reaches(exported: Release, dataset: Dataset) -> None:
    read = json.loads((exported.folder / CARD).read_bytes())
    assert read == json.loads(json.dumps(exported.card))
    predicted = open_engine(exported.folder, "onnx", "cpu").predict(dataset.test.images).argmax(axis=1)
    right = predicted == dataset.test.labels
    evaluation = read["evaluation"]
    assert evaluation["accuracy"] == pytest.approx(right.mean(), abs=1e-6)
    assert evaluation["standard_error"] == pytest.approx(right.std() / 100, abs=1e-6)
    bag = CLASSES.index("Bag")
    assert evaluation["classes"]["Bag"]["recall"] == pytest.approx(right[dataset.test.labels == bag].mean(), abs=1e-4)
    assert evaluation["classes"]["Bag"]["precision"] == pytest.approx(right[predicted == bag].mean(), abs=1e-4)
    assert np.array(evaluation["confusion_matrix"])[bag].sum() == (dataset.test.labels == bag).sum()
    assert read["network"]["parameters"] == 32_998
    assert read["model_version"] == "1.0"
    for name, row in read["files"].items():
        assert row == {"bytes": (exported.folder / name).stat().st_size, "sha256": checksums.of(exported.folder / name)}


def test_the_card_for_people_tells_the_same(exported: Release) -> None:
    text = (exported.folder / card.MARKDOWN).read_text()
    evaluation = exported.card["evaluation"]
    assert f"**{evaluation['accuracy']:.2%}** (standard error {evaluation['standard_error']:.2%})" in text
    for row in exported.card["files"].values():
        assert row["sha256"] in text
    for row in exported.card["data"]["sha256_of_decompressed_files"].values():
        assert row in text


def test_the_samples_are_test_images_that_the_model_names_rightly(exported: Release, dataset: Dataset) -> None:
    names = [
        "t_shirt_top.png", "trouser.png", "pullover.png", "dress.png", "coat.png",
        "sandal.png", "shirt.png", "sneaker.png", "bag.png", "ankle_boot.png",
    ]  # fmt: skip
    assert [sample_file(label) for label in CLASSES] == [f"samples/{name}" for name in names]
    engine = open_engine(exported.folder, "onnx", "cpu")
    for index, name in enumerate(names):
        image = np.asarray(Image.open(exported.folder / "samples" / name))
        assert image.dtype == np.uint8
        places = np.flatnonzero((dataset.test.images == image).all(axis=(1, 2, 3)))
        assert dataset.test.labels[places[0]] == index
        assert engine.predict(image[None, None]).argmax() == index


def test_what_training_says_goes_into_the_card(exported: Release, dataset: Dataset, tmp_path: Path) -> None:
    run, store = tmp_path / "run", tmp_path / "store"
    run.mkdir()
    (run / "weights.pt").write_bytes((exported.folder / "weights.pt").read_bytes())
    (run / "training_summary.json").write_text(
        '{"recipe": {"name": "quick", "learning_rate": 0.0123456, "betas": [0.9, 0.99]},'
        ' "seed": 7, "epochs": [{"loss": 1}, {"loss": 0.5}], "unknown": {"threshold": 3.25, "held_out_share": 0.05}}'
    )
    made = release.release(run / "weights.pt", store, dataset, version="2.1")
    assert made.card["training"]["seed"] == 7
    assert made.card["training"]["epochs"][1] == {"loss": 0.5}
    text = (store / card.MARKDOWN).read_text()
    assert "| recipe.learning_rate | 0.0123456 |" in text
    assert "| recipe.betas | 0.9, 0.99 |" in text
    assert "| epochs | 2 values, in model_card.json |" in text
    assert "`unknown_score` above 3.25" in text
    assert unknown_threshold(store) == 3.25
    checksums.verify(store / "training_summary.json")

    # Weights without a record, and no version given: the next version, without the record of other weights.
    (run / "training_summary.json").unlink()
    made = release.release(run / "weights.pt", store, dataset)
    assert made.card["model_version"] == "2.2"
    assert made.card["training"] is None
    assert unknown_threshold(store) == math.inf
    assert not (store / "training_summary.json").exists()


def test_a_graph_that_disagrees_replaces_nothing(
    store: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong(ForOnnxRuntime):
        def __init__(self, classifier: Classifier) -> None:
            super().__init__(classifier)
            self.network.out.bias[0] += 1e-3

    before = content(store)
    monkeypatch.setattr(release, "ForOnnxRuntime", Wrong)
    with pytest.raises(ExportError, match="onnx disagrees with the network: "):
        release.release(store / "weights.pt", store, dataset, version="9.9")
    assert content(store) == before


def test_an_invalid_graph_replaces_nothing(store: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    class Strange(ForOnnxRuntime):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return super().forward(images)[:, :9]

    before = content(store)
    monkeypatch.setattr(release, "ForOnnxRuntime", Strange)
    with pytest.raises(ExportError, match=r"ONNX graph has .* where probabilities \['batch', 10\] is due"):
        release.release(store / "weights.pt", store, dataset)
    assert content(store) == before


def test_a_model_that_knows_a_class_never_is_not_released(store: Path, dataset: Dataset, tmp_path: Path) -> None:
    before = content(store)
    torch.manual_seed(0)
    save_weights(Classifier(Network(), mean=0.29, std=0.35), tmp_path / "untrained.pt")
    with pytest.raises(ExportError, match=r"names no .* rightly"):
        release.release(tmp_path / "untrained.pt", store, dataset)
    assert content(store) == before


def test_weights_that_are_none_are_named(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(b"no weights")
    with pytest.raises(FashionMNISTError, match=r"weights\.pt"):
        release.release(tmp_path / "weights.pt", tmp_path / "store", dataset)
    with pytest.raises(FashionMNISTError, match=r"missing\.pt"):
        release.release(tmp_path / "missing.pt", tmp_path / "store", dataset)


def test_an_output_that_cannot_be_is_named(store: Path, dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ExportError, match=r"file/store cannot be written .* --output"):
        release.release(store / "weights.pt", tmp_path / "file" / "store", dataset)


def test_a_summary_that_is_no_json_is_named(store: Path, dataset: Dataset) -> None:
    (store / "training_summary.json").write_text("{")
    with pytest.raises(ModelError, match=r"training_summary\.json cannot be read"):
        release.release(store / "weights.pt", store, dataset)


@pytest.mark.parametrize("version", ["", "1/2", "1.0\r\nX: y", "../1", "1" * 65])
def test_a_version_that_fits_no_url_is_refused(version: str, dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="version"):
        release.release(tmp_path / "weights.pt", tmp_path / "store", dataset, version=version)


def test_a_store_that_a_crash_left_half_replaced_is_refused(
    store: Path, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = load_weights(store / "weights.pt")
    with torch.no_grad():
        classifier.temperature.mul_(1.01)
    save_weights(classifier, tmp_path / "weights.pt")
    replace = Path.replace

    def crash(self: Path, target: Path) -> Path:
        if target.name == checksums.NAME and target.parent == store:
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        release.release(tmp_path / "weights.pt", store, dataset)
    monkeypatch.undo()
    for engine in MODEL_FILES:
        with pytest.raises(ModelError, match="partly replaced"):
            open_engine(store, engine, "cpu")

    release.release(tmp_path / "weights.pt", store, dataset)
    for engine in MODEL_FILES:
        open_engine(store, engine, "cpu")
    assert not list(store.glob(".export.*"))


def test_a_model_that_is_less_robust_than_the_store_s_is_refused_unless_accepted(store: Path, dataset: Dataset) -> None:
    def robustness(accuracy: float) -> Callable[..., dict[str, Any]]:
        row = {"group": "corruption", "kind": "fog", "accuracy": accuracy, "calibration_error": 0.02, "flagged": 0.1}
        group = {"kinds": 1, "accuracy": accuracy, "worst": {"kind": "fog", "accuracy": accuracy}}
        rows = [row | {"strengths": {"1": accuracy}}]
        return lambda model, threshold: {"images": 1000, "rows": rows, "groups": {"corruption": group}}

    def unknown(model: release.Predict, threshold: float) -> list[dict[str, Any]]:
        assert threshold == unknown_threshold(store)
        return [{"kind": "digits", "auroc": {"score": 0.9876}, "flagged": 0.9}]

    made = release.release(store / "weights.pt", store, dataset, robustness=robustness(0.8), unknown=unknown)
    assert "| digits | 0.988 | 90.0% |" in (store / card.MARKDOWN).read_text()
    assert "| fog | 80.0% | 1: 80.0% | 0.020 | 10.0% |" in (store / card.MARKDOWN).read_text()
    assert made.card["robustness"]["groups"]["corruption"]["accuracy"] == 0.8
    before = content(store)
    with pytest.raises(ExportError, match="--accept-less-robust"):
        release.release(store / "weights.pt", store, dataset, robustness=robustness(0.78))
    assert content(store) == before
    release.release(store / "weights.pt", store, dataset, robustness=robustness(0.78), accept_less_robust=True)
    assert content(store) != before
