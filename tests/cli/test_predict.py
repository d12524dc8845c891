"""`fashion-mnist predict`: through the server and without it, the same answers; what is bad is said at the end."""

import csv
import io
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from fashion_mnist.classes import CLASSES
from fashion_mnist.data.splits import Dataset
from fashion_mnist.encoding import encode_image
from fashion_mnist.engines import open_engine
from tests.support.bodies import idx, npy
from tests.support.command import COMMAND
from tests.support.torchserve import RunningServer


def predict(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    command = [COMMAND, "predict", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(params=["server", "local"])
def way(request: pytest.FixtureRequest, torchserve: RunningServer) -> list[str]:
    """Through the running server, or without one."""
    return ["--local"] if request.param == "local" else ["--url", torchserve.url]


def test_samples_get_their_labels(way: list[str], model_store: Path) -> None:
    done = predict(model_store / "samples", "--json", *way)
    assert done.returncode == 0, done.stderr
    predictions = json.loads(done.stdout)["predictions"]
    slugs = {prediction["label"]: Path(prediction["image"]).stem for prediction in predictions}
    assert len(predictions) == len(CLASSES)
    assert {label.lower().replace("-", "_").replace("/", "_").replace(" ", "_") for label in slugs} == set(
        slugs.values()
    )


def test_a_table_with_bars(way: list[str], model_store: Path) -> None:
    done = predict(model_store / "samples" / "ankle_boot.png", *way)
    assert done.returncode == 0
    assert "Ankle boot" in done.stdout
    assert "█" in done.stdout


def test_every_kind_of_file_and_csv(way: list[str], tmp_path: Path, dataset: Dataset, model_store: Path) -> None:
    images = dataset.test.images[:12]
    (tmp_path / "a.png").write_bytes(encode_image(images[0]))
    (tmp_path / "b.npy").write_bytes(npy(images[1:4]))
    (tmp_path / "c-ubyte").write_bytes(idx(images[4:8]))
    (tmp_path / "d.json").write_text(json.dumps(images[8:10].tolist()))
    (tmp_path / "e.raw").write_bytes(images[10:12].tobytes())
    (tmp_path / "README.md").write_text("no image, and not taken for one")
    done = predict(tmp_path, "--csv", *way)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    expected = open_engine(model_store, "onnx", "cpu").predict(images)
    assert sorted(row["image"] for row in rows)[1] == f"{tmp_path}/b.npy[0]"
    by_name = [row for row in rows if row["image"].endswith("a.png")] + [
        row for row in rows if not row["image"].endswith("a.png")
    ]
    found = np.array([[float(row[name]) for name in CLASSES] for row in by_name])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_what_cannot_be_read_is_listed_and_the_rest_is_answered(
    way: list[str], tmp_path: Path, dataset: Dataset
) -> None:
    for index in range(300):  # more than one pack
        (tmp_path / f"{index:03}.png").write_bytes(encode_image(dataset.test.images[index]))
    (tmp_path / "010.png").write_bytes(b"")
    (tmp_path / "020.png").write_bytes(encode_image(dataset.test.images[0])[:99])
    (tmp_path / "bad.npy").write_bytes(npy(np.zeros(3)))
    done = predict(tmp_path, "--csv", tmp_path / "missing.png", *way)
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 1 + 298
    for name in ("010.png", "020.png", "bad.npy", "missing.png"):
        assert name in done.stderr
    assert "4 of 302" in done.stderr


@pytest.mark.parametrize("form", ["--csv", "--json", "table"])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_name_that_is_no_text_costs_no_answer(
    form: str, encoding: str, tmp_path: Path, dataset: Dataset, way: list[str]
) -> None:
    names = [b"caf\xe9.png", b"plain.png", "sch\u00f6n.png".encode(), b"\xff\n.png", b"\xe9.npy"]
    for name, image in zip(names, dataset.test.images, strict=False):
        (tmp_path / os.fsdecode(name)).write_bytes(encode_image(image))
    (tmp_path / os.fsdecode(b"\xe9.npy")).write_bytes(npy(np.zeros(3)))
    command: list[str | Path] = [COMMAND, "predict", tmp_path, *([form] if form != "table" else []), *way]
    environment = {**os.environ, "PYTHONIOENCODING": f"{encoding}:strict", "COLUMNS": "200"}
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, env=environment)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert b"1 of 5 files were not answered" in done.stderr
    assert b"\xe9.npy" in done.stderr
    if form == "--json":
        document = json.loads(done.stdout)
        answered = {os.fsencode(row["image"]) for row in document["predictions"]}
        assert answered == {os.fsencode(tmp_path / os.fsdecode(name)) for name in names[:4]}
    else:
        assert b"caf\xe9.png" in done.stdout
        assert b"plain.png" in done.stdout
        assert (b"sch\xc3\xb6n" if encoding == "utf-8" else b"sch\\xf6n") in done.stdout


def test_a_pack_of_bad_files_only(way: list[str], tmp_path: Path, dataset: Dataset) -> None:
    for index in range(3):
        (tmp_path / f"{index}.png").write_bytes(encode_image(dataset.test.images[index])[:99])
    done = predict(tmp_path, "--json", *way)
    assert done.returncode == 1
    assert len(json.loads(done.stdout)["errors"]) == 3


def test_no_server_says_what_to_do(model_store: Path) -> None:
    done = predict(model_store / "samples", "--url", "http://127.0.0.1:9/predictions/fashion_mnist")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "make serve" in done.stderr
    assert "--local" in done.stderr


def test_an_empty_folder_says_what_is_looked_for(tmp_path: Path) -> None:
    done = predict(tmp_path, "--local")
    assert done.returncode == 2
    assert ".png" in done.stderr
