"""Finished models: what can be served becomes a store that answers as the model does; all else is refused with why."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from typer.testing import CliRunner

from cli import app
from export.finished.store import import_model
from export.finished.wrapping import Wrapping
from fashion_mnist.encoding import encode_image
from fashion_mnist.engines import open_engine
from fashion_mnist.errors import ExportError, UsageError
from fashion_mnist.model_store import model_task
from fashion_mnist.system import checksums
from fashion_mnist.task import Geometry, HealthCheck, Task

GEOMETRY = Geometry(3, 6, 8)
CLASSES = ("red", "green", "blue", "none")
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
TASK = Task(name="colors", title="colors", classes=CLASSES, geometry=GEOMETRY, health_check=HealthCheck("", "red"))
IMAGES = np.random.default_rng(1).integers(0, 256, (20, *GEOMETRY), dtype=np.uint8)

torch.manual_seed(0)
MODULE = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 4 * 6, len(CLASSES))).eval()


def expected(images: np.ndarray) -> np.ndarray:
    """What PyTorch answers, step by step."""
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (MEAN, STD))
    with torch.inference_mode():
        found: np.ndarray = MODULE((torch.tensor(images) / 255 - mean) / std).softmax(1).numpy()
    return found


def wrapping(**changes: object) -> Wrapping:
    values = {"geometry": GEOMETRY, "classes": len(CLASSES), "mean": MEAN, "std": STD, **changes}
    return Wrapping(**values)  # type: ignore[arg-type]


def linear(
    *,
    shape: tuple[str | int, ...] = ("batch", *GEOMETRY),
    classes: int = len(CLASSES),
    inputs: int = 1,
    weight: float = 0.01,
    domain: str = "",
    opset: int = 17,
    element: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A model of one layer, in ONNX."""
    pixels = int(np.prod(GEOMETRY))
    weights = np.random.default_rng(2).normal(0, 0.1, (pixels, classes)).astype(np.float32)
    weights[0, 0] = weight
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"], axis=1),
        helper.make_node("MatMul" if not domain else "Magic", ["flat", "weights"], ["logits"], domain=domain),
    ]
    values = [helper.make_tensor_value_info("image", element, shape)]
    values += [helper.make_tensor_value_info(f"more{number}", element, [1]) for number in range(1, inputs)]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", classes])
    graph = helper.make_graph(nodes, "linear", values, [output], [numpy_helper.from_array(weights, "weights")])
    imported = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=imported, ir_version=10)


def scripted(folder: Path) -> Path:
    torch.jit.save(torch.jit.trace(MODULE, torch.zeros(2, *GEOMETRY)), str(folder / "model.pt"))
    return folder / "model.pt"


def exported(folder: Path) -> Path:
    batch = torch.export.Dim("batch")
    program = torch.export.export(MODULE, (torch.zeros(2, *GEOMETRY),), dynamic_shapes=({0: batch},))
    torch.export.save(program, str(folder / "model.pt2"))
    return folder / "model.pt2"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("save", [scripted, exported])
def test_a_model_of_pytorch_is_served_as_it_answers(save: Callable[[Path], Path], tmp_path: Path) -> None:
    made = import_model(save(tmp_path), tmp_path / "store", TASK, wrapping(), version="1.0")
    assert made.output == "logits"
    assert made.parities[0].engine == "onnx"
    assert save is exported or made.parities[1].engine == "torchscript"
    for runtime in (parity.engine for parity in made.parities):
        found = open_engine(tmp_path / "store", runtime, "cpu").predict(IMAGES)
        np.testing.assert_allclose(found, expected(IMAGES), atol=1e-5)


def test_an_onnx_model_is_served_as_it_answers(tmp_path: Path) -> None:
    onnx.save(linear(), tmp_path / "model.onnx")
    made = import_model(tmp_path / "model.onnx", tmp_path / "store", TASK, wrapping(), version="2.0")
    found = open_engine(tmp_path / "store", "onnx", "cpu").predict(IMAGES)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    assert made.parities[0].largest_difference <= 1e-5
    assert made.card["model_version"] == "2.0"
    task = model_task(tmp_path / "store")
    assert task.classes == CLASSES
    assert (tmp_path / "store" / task.health_check.image).is_file()
    for name in ("model.onnx", "model_card.json"):
        checksums.verify(tmp_path / "store" / name)


def test_a_fixed_batch_becomes_dynamic(tmp_path: Path) -> None:
    onnx.save(linear(shape=(1, *GEOMETRY)), tmp_path / "model.onnx")
    import_model(tmp_path / "model.onnx", tmp_path / "store", TASK, wrapping(), version="1.0")
    assert open_engine(tmp_path / "store", "onnx", "cpu").predict(IMAGES).shape == (20, 4)


def test_weights_in_a_file_of_their_own_are_taken_in(tmp_path: Path) -> None:
    onnx.save(linear(), tmp_path / "model.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    import_model(tmp_path / "model.onnx", tmp_path / "store", TASK, wrapping(), version="1.0")
    assert sorted(path.name for path in (tmp_path / "store").glob("*.onnx*")) == ["model.onnx"]


def text(path: Path) -> None:
    path.write_text("no model")


def pickled(path: Path) -> None:
    torch.save(MODULE, path)


def without_weights(path: Path) -> None:
    onnx.save(linear(), path, save_as_external_data=True, location="weights", size_threshold=0)
    path.with_name("weights").unlink()


def saved(**changes: object) -> Callable[[Path], None]:
    return lambda path: onnx.save(linear(**changes), path)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "write", "reason"),
    [
        ("model.onnx", text, "no ONNX model"),
        ("model.pt", text, "neither TorchScript nor"),
        ("model.pt", pickled, "never loaded"),
        ("model.onnx", without_weights, "cannot be read"),
        ("model.onnx", saved(inputs=2), "2 inputs"),
        ("model.onnx", saved(shape=("batch", 3, "height", "width")), "dynamic"),
        ("model.onnx", saved(shape=("batch", 6, 8, 3)), "channels first"),
        ("model.onnx", saved(shape=("batch", 3, 8, 6)), "--size 3x6x8"),
        ("model.onnx", saved(classes=5), "4 class names"),
        ("model.onnx", saved(weight=np.nan), "NaN"),
        ("model.onnx", saved(domain="com.example"), "custom operators"),
        ("model.onnx", saved(opset=10_000), "opset 10000"),
        ("model.onnx", saved(element=TensorProto.FLOAT16), "FLOAT16"),
    ],
)
def test_what_cannot_be_served_is_refused_and_leaves_nothing(
    name: str, write: Callable[[Path], None], reason: str, tmp_path: Path
) -> None:
    write(tmp_path / name)
    (tmp_path / "out").mkdir()
    with pytest.raises(ExportError, match=reason):
        import_model(tmp_path / name, tmp_path / "out" / "store", TASK, wrapping(), version="1.0")
    assert list((tmp_path / "out").iterdir()) == []


def test_logits_are_not_taken_for_probabilities(tmp_path: Path) -> None:
    onnx.save(linear(), tmp_path / "model.onnx")
    with pytest.raises(ExportError, match="--logits"):
        import_model(tmp_path / "model.onnx", tmp_path / "s", TASK, wrapping(output="probabilities"), version="1.0")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"mean": (0.5,)}, "3 channels"), ({"std": (0.1, 0, 1)}, "above 0"), ({"mean": (np.nan,) * 3}, "finite")],
)
def test_numbers_that_do_not_fit_the_images_are_refused(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        wrapping(**changes)


class TestCommand:
    @pytest.fixture(autouse=True)
    def files(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        onnx.save(linear(), "my model.onnx")
        Path("classes.txt").write_text("\n".join(CLASSES) + "\n")
        Path("image.png").write_bytes(encode_image(IMAGES[0]))

    def run(self, *options: str) -> str:
        arguments = ["import", "my model.onnx", "--classes", "classes.txt", "--size", "3x6x8", "--output", "store"]
        result = CliRunner().invoke(app, [*arguments, *options])
        return result.output + str(result.exception or "")

    def test_the_label_of_the_check_image_becomes_the_health_check(self) -> None:
        assert "written to store" in self.run()
        label = CLASSES[int(open_engine(Path("store"), "onnx", "cpu").predict(IMAGES[:1])[0].argmax())]
        other = next(name for name in CLASSES if name != label)
        assert "not for" in self.run("--output", "other", "--check", f"image.png={other}")
        assert "written to checked" in self.run("--output", "checked", "--check", f"image.png={label}")
        task = model_task(Path("checked"))
        assert (task.name, task.health_check.label) == ("my_model", label)
        assert (Path("checked") / task.health_check.image).read_bytes() == encode_image(IMAGES[0])

    def test_a_store_that_is_there_is_not_written_over(self) -> None:
        self.run()
        assert "is not empty" in self.run()

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            (("--size", "28x28"), "3x224x224"),
            (("--size", "2x6x8"), "channels are 1 or 3"),
            (("--mean", "a"), "--mean"),
            (("--check", "image.png"), "IMAGE=LABEL"),
            (("--check", "absent.png=red"), "cannot be read"),
            (("--crop", "6"), "--resize"),
            (("--classes", "absent.txt"), "class name per line"),
            (("--name", "My Model"), "small letters"),
        ],
    )
    def test_a_wrong_option_says_what_to_give(self, options: tuple[str, ...], reason: str) -> None:
        assert reason in self.run(*options)
        assert not Path("store").exists()

    def test_two_classes_of_one_name_are_refused(self) -> None:
        Path("classes.txt").write_text("a\nb\na\nc\n")
        assert "two classes are called 'a'" in self.run()
