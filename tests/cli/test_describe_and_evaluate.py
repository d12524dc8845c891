"""`fashion-mnist describe` and `fashion-mnist evaluate`."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fashion_mnist.classes import CLASSES
from fashion_mnist.description import describe
from fashion_mnist.evaluation import evaluation
from fashion_mnist.model_store import model_card
from fashion_mnist.network import Network
from fashion_mnist.task import Geometry
from tests.support.command import COMMAND

DESIGN = [
    ("conv1", "in_channels", "1", "data-dependent", "the number of colour channels in the input image"),
    ("conv1", "kernel_size", "5", "hyperparameter", ""),
    ("conv1", "out_channels", "6", "hyperparameter", ""),
    ("conv2", "in_channels", "6", "data-dependent", "the number of out_channels in the previous layer"),
    ("conv2", "kernel_size", "5", "hyperparameter", ""),
    ("conv2", "out_channels", "12", "hyperparameter", "higher than the previous conv layer's"),
    ("fc1", "in_features", "12*4*4", "data-dependent", "the length of the flattened output of the previous layer"),
    ("fc1", "out_features", "120", "hyperparameter", ""),
    ("fc2", "in_features", "120", "data-dependent", "the number of out_features of the previous layer"),
    ("fc2", "out_features", "60", "hyperparameter", "lower than the previous linear layer's"),
    ("out", "in_features", "60", "data-dependent", "the number of out_features of the previous layer"),
    ("out", "out_features", "10", "data-dependent", "the number of prediction classes"),
]


def run(*arguments: str | Path, status: int = 0) -> str:
    done = subprocess.run([COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


def test_describe_gives_the_designs_table() -> None:
    described = json.loads(run("describe", "--json"))
    assert [tuple(row.values()) for row in described["arguments"]] == DESIGN
    assert described["total"] == 32_998
    assert sum(row["count"] for row in described["parameters"]) == 32_998
    shapes = [row["shape"] for row in described["steps"]]
    assert shapes[0] == [1, 28, 28]
    assert [192] in shapes
    assert shapes[-1] == [10]


def test_the_table_is_derived_from_the_network() -> None:
    rows: list[dict[str, Any]] = describe(Network(Geometry(3, 32, 32), 5, kernel_size=3, fc2_out=200))["arguments"]
    values = {(row["layer"], row["parameter"]): (row["argument"], row["why"]) for row in rows}
    assert values["conv1", "in_channels"][0] == "3"
    assert values["fc1", "in_features"][0] == "12*6*6"
    assert values["fc2", "out_features"] == ("200", "higher than the previous linear layer's")
    assert values["out", "out_features"][0] == "5"


def test_describe_for_people() -> None:
    said = run("describe")
    assert "32,998" in said
    assert "12*4*4" in said
    assert "12 x 6 x 5 x 5" in said


def test_the_filters_as_pictures(tmp_path: Path) -> None:
    run("describe", "--figures", tmp_path)
    for name in ("conv1.png", "conv2.png"):
        assert np.asarray(Image.open(tmp_path / name).convert("L")).std() > 10


@pytest.mark.parametrize("model", ["weights.pt", "model.torchscript.pt", "model.onnx"])
def test_evaluate_takes_every_form_of_a_model(model_store: Path, tmp_path: Path, model: str) -> None:
    figure = tmp_path / "confusion.png"
    figures = json.loads(run("evaluate", model_store / model, "--json", "--device", "cpu", "--figure", figure))
    card = model_card(model_store)["evaluation"]
    assert figures["accuracy"] == card["accuracy"]
    assert figures["classes"].keys() == set(CLASSES)
    assert 0 < figures["calibration"]["expected_error"] < 0.05
    with Image.open(figure) as picture:
        assert picture.format == "PNG"


def test_evaluate_for_people(model_store: Path) -> None:
    said = run("evaluate", model_store / "model.onnx")
    assert "standard error" in said
    assert "Ankle boot" in said


def test_evaluate_refuses_what_is_no_model(tmp_path: Path) -> None:
    assert "does not exist" in run("evaluate", tmp_path / "missing.onnx", status=1)
    (tmp_path / "weights.pt").write_bytes(b"none")
    assert "weights.pt" in run("evaluate", tmp_path / "weights.pt", status=1)


def test_figures_are_those_that_one_computes_by_hand() -> None:
    labels = np.array([0, 0, 0, 1], np.uint8)
    probabilities = np.zeros((4, 10), np.float32)
    probabilities[[0, 1, 2, 3], [0, 0, 1, 1]] = 1
    figures = evaluation(probabilities, labels)
    assert figures["accuracy"] == 0.75
    assert figures["standard_error"] == pytest.approx((0.75 * 0.25 / 4) ** 0.5, abs=1e-6)
    first, second = figures["classes"][CLASSES[0]], figures["classes"][CLASSES[1]]
    assert (first["precision"], first["recall"], first["f1"]) == (1, pytest.approx(2 / 3, abs=1e-4), 0.8)
    assert (second["precision"], second["recall"]) == (0.5, 1)
    assert np.sum(figures["confusion_matrix"]) == 4


@pytest.mark.parametrize(
    "command",
    [
        "describe",
        "train",
        "evaluate",
        "errors",
        "report",
        "compare",
        "robustness",
        "unknown",
        "export",
        "archive",
        "serve",
        "status",
        "predict",
        "loadtest",
        "bench",
        "settings",
    ],
)
def test_help_has_an_example(command: str) -> None:
    assert "Example" in run(command, "--help")


def test_errors_come_without_a_traceback_unless_asked_for() -> None:
    assert run("train", "--recipe", "slow", status=2).startswith("error: ")
    assert "Traceback" in run("--debug", "train", "--recipe", "slow", status=1)
