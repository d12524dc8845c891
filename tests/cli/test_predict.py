"""`fashion-mnist predict`: through the server and without it, the same answers; what is bad is said at the end."""

import contextlib
import csv
import gzip
import io
import json
import os
import pty
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import trustme
from PIL import Image

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
    assert b"1 of 5 files have no prediction" in done.stderr
    assert b"\xe9.npy" in done.stderr
    if form == "--json":
        document = json.loads(done.stdout)
        answered = {os.fsencode(row["image"]) for row in document["predictions"]}
        assert answered == {os.fsencode(tmp_path / os.fsdecode(name)) for name in names[:4]}
    else:
        assert b"caf\xe9.png" in done.stdout
        assert b"plain.png" in done.stdout
        assert (b"sch\xc3\xb6n" if encoding == "utf-8" else b"sch\\xf6n") in done.stdout


def on_a_terminal(*arguments: str | Path, columns: int = 80) -> str:
    """What the command prints on a terminal of so many columns."""
    terminal, other = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "dumb"}
    with os.fdopen(terminal, "rb", buffering=0) as reader:
        process = subprocess.Popen(
            [COMMAND, *map(str, arguments)], stdout=other, stderr=subprocess.DEVNULL, env=environment
        )
        os.close(other)
        read = b""
        # Linux says EIO where the other end is closed.
        with contextlib.suppress(OSError):
            while chunk := reader.read(65536):
                read += chunk
        assert process.wait(60) == 0
    return read.decode().replace("\r", "")


def test_a_table_fits_the_terminal_tells_files_apart_and_ends(tmp_path: Path, dataset: Dataset) -> None:
    folder = tmp_path / ("a-long-name-of-a-folder-" * 4)
    folder.mkdir()
    for place in range(60):
        (folder / f"image-{place:02}.png").write_bytes(encode_image(dataset.test.images[place]))
    shown = on_a_terminal("predict", "--local", folder)
    assert max(map(len, shown.splitlines())) <= 80
    assert "image-00.png" in shown
    assert "image-01.png" in shown
    assert "and 10 images more: --csv and --json print all" in shown
    assert "unknown" in shown


def test_every_form_says_what_is_unknown_and_what_was_adjusted(way: list[str], tmp_path: Path) -> None:
    photograph = tmp_path / "photograph.png"
    Image.new("RGB", (300, 300), "white").save(photograph)
    (row,) = csv.DictReader(io.StringIO(predict(photograph, "--csv", *way).stdout))
    (prediction,) = json.loads(predict(photograph, "--json", *way).stdout)["predictions"]
    table = predict(photograph, *way).stdout
    assert row["unknown"] == str(prediction["unknown"])
    assert float(row["unknown_score"]) == prediction["unknown_score"]
    assert row["adjusted"] == "; ".join(prediction["adjusted"])
    assert str(prediction["unknown_score"]) in table
    for step in prediction["adjusted"]:
        assert step in table


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-images-idx3-ubyte.gz", "images.npy"])
def test_a_file_of_more_images_than_one_request_may_have_is_packed(
    way: list[str], name: str, tmp_path: Path, dataset: Dataset
) -> None:
    images = np.tile(dataset.test.images, (2, 1, 1, 1))
    content = npy(images) if name.endswith(".npy") else idx(images)
    (tmp_path / name).write_bytes(gzip.compress(content, 1) if name.endswith(".gz") else content)
    done = predict(tmp_path / name, "--csv", *way)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(rows) == len(images)
    assert [row["label"] for row in rows[:10_000]] == [row["label"] for row in rows[10_000:]]


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "localhost:8080/predictions/fashion_mnist", "ftp://127.0.0.1"])
def test_a_url_without_its_scheme_is_said_to_lack_it(url: str, model_store: Path) -> None:
    done = predict(model_store / "samples", "--url", url)
    assert done.returncode == 2
    assert "http://127.0.0.1:8080" in done.stderr
    assert "make serve" not in done.stderr


def test_https_to_a_server_without_tls_says_so(torchserve: RunningServer, model_store: Path) -> None:
    done = predict(model_store / "samples", "--url", torchserve.url.replace("http:", "https:"))
    assert done.returncode == 1
    assert "does not speak TLS: write http://" in done.stderr


def test_http_to_a_server_with_tls_says_so(model_store: Path, tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        done = predict(model_store / "samples", "--url", f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert done.returncode == 1
    assert "speaks TLS: write https://" in done.stderr


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
