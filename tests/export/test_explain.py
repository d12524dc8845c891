"""explain.onnx and the mistakes: what they show is what the network computes, and adds up."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import nn

from export import explain, mistakes
from export.release import Release
from fashion_mnist.classes import CLASSES
from fashion_mnist.data.splits import Dataset
from fashion_mnist.description import describe
from fashion_mnist.errors import ExportError, ModelError
from fashion_mnist.explanation import Explainer, occlusion, open_explainer
from fashion_mnist.model_store import EXPLAIN, MISTAKES, MISTAKES_SPRITE
from fashion_mnist.network import Classifier, Network, load_weights
from fashion_mnist.system import checksums
from fashion_mnist.task import FASHION_MNIST, Geometry


@pytest.fixture(scope="module")
def explainer(model_store: Path) -> Explainer:
    return Explainer(model_store)


@pytest.fixture(scope="module")
def classifier(model_store: Path) -> Classifier:
    return load_weights(model_store / "weights.pt")


def weights_of(explainer: Explainer) -> dict[str, np.ndarray]:
    return {
        name: np.frombuffer(base64.b64decode(row["values"]), "<f4").reshape(row["shape"])
        for name, row in explainer.network["weights"].items()
    }


def test_layers_are_those_of_the_network_within_a_ten_thousandth(
    explainer: Explainer, classifier: Classifier, dataset: Dataset
) -> None:
    images = dataset.test.images[:64]
    expected = explain.outputs_of(classifier, images)
    found = explainer.layers(images)
    assert [*expected, "probabilities"] == list(found)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-4, rtol=0, err_msg=name)
    with torch.inference_mode():
        probabilities = classifier(torch.tensor(images)).numpy()
    np.testing.assert_allclose(found["probabilities"], probabilities, atol=1e-5, rtol=0)


def test_one_image_alone_gives_what_it_gives_among_others(explainer: Explainer, dataset: Dataset) -> None:
    layers = explainer.layers(dataset.test.images[:3])
    alone = explainer.explain(dataset.test.images[1], occlude=False)
    assert alone.occlusion is None
    for layer in explainer.network["layers"]:
        assert list(alone.layers[layer["name"]].shape) == layer["shape"]
        np.testing.assert_allclose(alone.layers[layer["name"]], layers[layer["name"]][1], atol=1e-4, rtol=0)


def test_the_weights_are_those_of_the_network(explainer: Explainer, classifier: Classifier) -> None:
    found = weights_of(explainer)
    for name, parameter in classifier.network.named_parameters():
        np.testing.assert_array_equal(found.pop(name), parameter.detach().numpy())
    assert not found


def test_each_layer_follows_from_the_one_before_by_the_arithmetic_that_is_written_out(
    explainer: Explainer, dataset: Dataset
) -> None:
    network, weights = explainer.network, weights_of(explainer)
    image = dataset.test.images[7, 0]
    found = explainer.explain(image).layers
    generator = np.random.default_rng(seed=0)
    scaled = (image / 255) ** network["gamma"]
    np.testing.assert_allclose(found["normalized"][0], (scaled - network["mean"]) / network["std"], atol=1e-5)
    for layer in network["layers"]:
        values = found[layer["name"]]
        if layer["kind"] not in ("conv", "linear", "pool", "activation"):
            continue
        before = found[layer["from"]]
        for _ in range(25):
            cell = tuple(int(generator.integers(size)) for size in values.shape)
            if layer["kind"] == "conv":
                kernels = weights[layer["weight"]][cell[0]]
                rows, columns = (slice(at, at + size) for at, size in zip(cell[1:], kernels.shape[1:], strict=True))
                due = (before[:, rows, columns] * kernels).sum() + weights[layer["bias"]][cell[0]]
            elif layer["kind"] == "linear":
                due = before @ weights[layer["weight"]][cell[0]] + weights[layer["bias"]][cell[0]]
            elif layer["kind"] == "pool":
                side = network["pool"]
                rows, columns = (slice(side * at, side * at + side) for at in cell[1:])
                due = before[cell[0], rows, columns].max()
            else:
                assert network["activation"] == "relu"
                due = max(before[cell], 0)
            assert values[cell] == pytest.approx(due, abs=1e-4), (layer["name"], cell)
    exponents = np.exp(found["out"] / network["temperature"])
    np.testing.assert_allclose(found["probabilities"], exponents / exponents.sum(), atol=1e-5)


def test_occlusion_is_the_fall_of_the_likeliest_class(
    explainer: Explainer, classifier: Classifier, dataset: Dataset
) -> None:
    image = dataset.test.images[0, 0]
    window, stride, rows, columns = explainer.occlusion
    assert (window, stride, rows, columns) == (6, 2, 12, 12)
    found = explainer.explain(image).occlusion
    assert found is not None
    assert found.shape == (rows, columns)
    with torch.inference_mode():
        whole = classifier(torch.tensor(image)[None, None])[0].numpy()
        for row, column in ((0, 0), (5, 7), (11, 11)):
            hidden = image.copy()
            hidden[stride * row : stride * row + window, stride * column : stride * column + window] = 0
            left = classifier(torch.tensor(hidden)[None, None])[0].numpy()
            assert found[row, column] == pytest.approx(whole.max() - left[whole.argmax()], abs=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (12, 12), (28, 28), (32, 64), (64, 64), (224, 224)])
def test_windows_stay_within_the_image_and_are_few(size: tuple[int, int]) -> None:
    window, stride, rows, columns = occlusion(*size)
    assert (rows - 1) * stride + window <= size[0]
    assert (columns - 1) * stride + window <= size[1]
    assert 1 <= rows * columns <= 256


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("views", ["one", "mirror"])
def test_every_kind_of_classifier_can_be_explained(activation: str, views: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    classifier = Classifier(Network(activation=activation), mean=0.3, std=0.4, temperature=1.5, gamma=0.5).eval()
    classifier.views = views
    explain.export(classifier, tmp_path / EXPLAIN)
    checksums.write(tmp_path, [EXPLAIN])
    images = np.random.default_rng(seed=0).integers(0, 256, (5, 1, 28, 28), dtype=np.uint8)
    with torch.inference_mode():
        expected = classifier(torch.tensor(images)).numpy()
    explain.compare(classifier, tmp_path, images, expected).check()
    network = Explainer(tmp_path).network
    assert (network["activation"], network["views"]) == (activation, views)
    assert network["description"] == json.loads(json.dumps(describe(classifier.network)))


def test_a_graph_of_other_weights_fails_the_export(model_store: Path, dataset: Dataset) -> None:
    classifier = load_weights(model_store / "weights.pt")
    with torch.no_grad():
        assert classifier.network.conv2.bias is not None
        classifier.network.conv2.bias += 0.001
    images = dataset.test.images[:50]
    with torch.inference_mode():
        expected = classifier(torch.tensor(images)).numpy()
    with pytest.raises(ExportError, match="disagrees"):
        explain.compare(classifier, model_store, images, expected).check()


def test_not_a_number_fails_the_export() -> None:
    with pytest.raises(ExportError):
        explain.LayerParity(images=1, largest_difference=float("nan"), layer="fc1").check()


def test_the_released_graph_is_what_its_weights_export_to(exported: Release, model_store: Path) -> None:
    assert (exported.folder / EXPLAIN).read_bytes() == (model_store / EXPLAIN).read_bytes()
    model = onnx.load(model_store / EXPLAIN)
    assert b".py" not in model.SerializeToString()
    assert [value.name for value in model.graph.input] == ["images"]


def test_the_layers_kinds_are_those_of_the_network() -> None:
    network = Network(Geometry(3, 32, 40), 7)
    layers = explain.layers_of(network)
    kinds = {"conv": nn.Conv2d, "linear": nn.Linear}
    for layer in layers:
        if layer["kind"] in kinds:
            assert isinstance(getattr(network, layer["name"]), kinds[layer["kind"]])
    assert [layer["name"] for layer in layers if "weight" in layer] == ["conv1", "conv2", "fc1", "fc2", "out"]
    assert layers[0]["shape"] == [3, 32, 40]
    assert layers[-1]["shape"] == [7]


def test_a_store_without_the_graph_has_no_explainer(tmp_path: Path) -> None:
    assert open_explainer(tmp_path) is None


def test_an_altered_graph_is_refused(store: Path) -> None:
    content = bytearray((store / EXPLAIN).read_bytes())
    content[-1000] ^= 1
    (store / EXPLAIN).write_bytes(content)
    with pytest.raises(ModelError, match="checksum"):
        open_explainer(store)


def test_another_graph_is_refused(store: Path) -> None:
    (store / EXPLAIN).write_bytes((store / "model.onnx").read_bytes())
    checksums.write(store, [EXPLAIN])
    with pytest.raises(ModelError, match="no description of layers"):
        open_explainer(store)


@pytest.fixture(scope="module")
def shown(model_store: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((model_store / MISTAKES).read_bytes())
    return content


def test_the_confusion_matrix_is_the_card_s(shown: dict[str, Any], model_store: Path) -> None:
    card = json.loads((model_store / "model_card.json").read_bytes())
    assert shown["matrix"] == card["evaluation"]["confusion_matrix"]
    assert shown["model_version"] == card["model_version"]


def test_each_tile_is_its_test_image_and_gets_the_answer_of_its_cell(
    shown: dict[str, Any], model_store: Path, dataset: Dataset
) -> None:
    sprite = model_store / MISTAKES_SPRITE
    assert sprite.stat().st_size <= 150_000
    with Image.open(sprite) as image:
        pixels = np.asarray(image.convert("RGB"))
    assert (pixels == pixels[:, :, :1]).all()
    width, height = shown["sprite"]["tile"]["width"], shown["sprite"]["tile"]["height"]
    tiles = []
    for number, tile in enumerate(shown["tiles"]):
        row, column = divmod(number, shown["sprite"]["columns"])
        tiles.append(pixels[row * height : (row + 1) * height, column * width : (column + 1) * width, 0])
        np.testing.assert_array_equal(tiles[-1], dataset.test.images[tile["image"], 0])
        assert tile["label"] == dataset.test.labels[tile["image"]]
    session = onnxruntime.InferenceSession(model_store / "model.onnx", providers=["CPUExecutionProvider"])
    (probabilities,) = session.run(None, {"images": np.stack(tiles)[:, None]})
    assert probabilities.argmax(axis=1).tolist() == [tile["answered"] for tile in shown["tiles"]]
    np.testing.assert_allclose(probabilities.max(axis=1), [tile["probability"] for tile in shown["tiles"]], atol=1e-4)


def test_every_cell_that_counts_images_shows_some(shown: dict[str, Any]) -> None:
    seen = []
    for true, row in enumerate(shown["cells"]):
        for said, places in enumerate(row):
            assert bool(places) == bool(shown["matrix"][true][said])
            assert all(shown["tiles"][place]["label"] == true for place in places)
            assert all(shown["tiles"][place]["answered"] == said for place in places)
            sure = [shown["tiles"][place]["probability"] for place in places]
            assert sure == sorted(sure, reverse=True)
            seen += places
    assert seen == list(range(shown["sprite"]["tiles"]))


def test_no_sprite_is_written_that_would_be_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mistakes, "MOST_BYTES", 100)
    generator = np.random.default_rng(seed=0)
    images = generator.integers(0, 256, (20, 1, 28, 28), dtype=np.uint8)
    labels = (np.arange(20) % len(CLASSES)).astype(np.uint8)
    probabilities = generator.dirichlet(np.ones(len(CLASSES)), 20).astype(np.float32)
    assert mistakes.write(tmp_path, "1.0", images, labels, probabilities, FASHION_MNIST) == []
    assert not list(tmp_path.iterdir())
