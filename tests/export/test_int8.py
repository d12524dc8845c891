"""The measurement of the eight-bit graph: that it is one, and that it is measured beside the released graph."""

import re
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from export import int8, timing
from fashion_mnist.data.splits import Dataset
from fashion_mnist.engines import load_file


def test_the_quantised_graph_computes_in_integers_and_nearly_the_same(
    model_store: Path, dataset: Dataset, tmp_path: Path
) -> None:
    int8.quantise(model_store / "model.onnx", tmp_path / "int8.onnx", dataset.train.images)
    graph = onnx.load(tmp_path / "int8.onnx").graph
    assert any(tensor.data_type == onnx.TensorProto.INT8 for tensor in graph.initializer)
    assert [path.name for path in tmp_path.iterdir()] == ["int8.onnx"]
    images = dataset.test.images[:1000]
    ours, theirs = (
        load_file(path, "cpu").predict(images) for path in (tmp_path / "int8.onnx", model_store / "model.onnx")
    )
    assert (ours.argmax(axis=1) == theirs.argmax(axis=1)).mean() > 0.97
    assert not np.array_equal(ours, theirs)


def test_prints_accuracy_and_times_of_both(
    model_store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(timing, "ROUNDS", 1)
    monkeypatch.setattr(timing, "IMAGES", 64)
    monkeypatch.setattr(sys, "argv", ["int8", str(model_store / "weights.pt")])
    int8.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["float32", "int8"]
    for line in lines:
        assert re.search(r"\t9\d\.\d\d% of the test images\t", line)
        assert line.count("us an image") == len(timing.BATCHES)
