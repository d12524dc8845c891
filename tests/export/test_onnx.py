"""ONNX: one file, the contract's graph, nothing strange in it."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from export.folding import ForOnnxRuntime
from export.onnx import check, export
from export.release import Release
from fashion_mnist.errors import ExportError
from fashion_mnist.network import load_weights
from fashion_mnist.task import FASHION_MNIST

NAME = "model.onnx"


@pytest.fixture
def model(exported: Release) -> onnx.ModelProto:
    return onnx.load(exported.folder / NAME)


def refused(model: onnx.ModelProto, folder: Path, reason: str) -> None:
    onnx.save(model, folder / "spoilt.onnx")
    with pytest.raises(ExportError, match=reason):
        check(folder / "spoilt.onnx", FASHION_MNIST)


def test_the_nodes_are_those_of_the_network(model: onnx.ModelProto) -> None:
    nodes = [node.op_type for node in model.graph.node]
    activation = nodes[3]
    assert activation in {"Relu", "Gelu"}
    layer, convolution = ["Gemm", activation], ["Conv", activation, "MaxPool"]
    layers = [*convolution, "Slice", *convolution, "Reshape", *layer, *layer, "Gemm"]
    assert nodes == ["Cast", "Sqrt", *layers, "Softmax"]


def test_the_same_weights_give_the_same_bytes(exported: Release, tmp_path: Path) -> None:
    export(ForOnnxRuntime(load_weights(exported.folder / "weights.pt")), tmp_path / NAME, FASHION_MNIST)
    assert (tmp_path / NAME).read_bytes() == (exported.folder / NAME).read_bytes()


def test_names_no_file_of_the_machine_that_wrote_it(exported: Release) -> None:
    content = (exported.folder / NAME).read_bytes()
    assert b".py" not in content
    assert b"+cpu" not in content
    assert b"+cu1" not in content


@pytest.mark.parametrize("size", [1, 2, 33])
def test_takes_any_batch(exported: Release, size: int) -> None:
    session = onnxruntime.InferenceSession(exported.folder / NAME, providers=["CPUExecutionProvider"])
    assert [value.shape for value in session.get_inputs()] == [["batch", 1, 28, 28]]
    (answer,) = session.run(None, {"images": np.zeros((size, 1, 28, 28), np.uint8)})
    assert answer.dtype == np.float32
    assert answer.shape == (size, 10)
    np.testing.assert_allclose(answer.sum(axis=1), 1, atol=1e-5)


def test_a_good_graph_passes(exported: Release) -> None:
    check(exported.folder / NAME, FASHION_MNIST)


def test_refuses_an_invalid_graph(model: onnx.ModelProto, tmp_path: Path) -> None:
    model.graph.node[1].op_type = "Convolve"
    refused(model, tmp_path, "invalid")


def test_refuses_a_fixed_batch(model: onnx.ModelProto, tmp_path: Path) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    refused(model, tmp_path, r"\[2, 1, 28, 28\].* where images \['batch', 1, 28, 28\] is due")


def test_refuses_weights_in_a_second_file(model: onnx.ModelProto, tmp_path: Path) -> None:
    path = tmp_path / "spoilt.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.data", size_threshold=0)
    with pytest.raises(ExportError, match=r"outside its file|invalid"):
        check(path, FASHION_MNIST)
