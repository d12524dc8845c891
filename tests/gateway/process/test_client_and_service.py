"""The client against the real service."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from fashion_mnist.classes import CLASSES
from fashion_mnist.client.http import BATCH_IMAGES, AsyncClient, Client, Failure, File, Prediction
from fashion_mnist.data.splits import Dataset
from fashion_mnist.encoding import encode_image
from fashion_mnist.engines import open_engine
from fashion_mnist.errors import CorruptImage, Unauthorized
from tests.support.command import ServeCommand, serve_command, wait_until


def test_predict_packs_and_gives_the_engines_own_numbers(
    embedded: ServeCommand, dataset: Dataset, model_store: Path
) -> None:
    images = dataset.test.images[: 2 * BATCH_IMAGES + 1]
    expected = open_engine(model_store, "onnx", "cpu").predict(images)
    with Client(embedded.url) as client:
        assert client.ready()
        np.testing.assert_allclose(client.predict(images), expected, rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(client.predict(images[0]), expected[:1], rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(client.predict(images[:3, 0]), expected[:3], rtol=1e-4, atol=1e-7)


def test_classify_names_what_is_on_files(embedded: ServeCommand, dataset: Dataset) -> None:
    images = [encode_image(image) for image in dataset.test.images[:3]]
    base = embedded.url.removesuffix("/predictions/fashion_mnist")
    with Client(base) as client:
        alone = [client.classify(image)[0] for image in images]
        together = client.classify(images[0], b"no image", images[1], File(images[2], "image/png"))
        (likeliest,) = client.classify(images[0], top_k=2)
        with pytest.raises(CorruptImage):
            client.classify(images[0][:50])
    good = [prediction for prediction in together if isinstance(prediction, Prediction)]
    assert [prediction.label for prediction in good] == [
        prediction.label for prediction in alone if isinstance(prediction, Prediction)
    ]
    assert isinstance(together[1], Failure)
    assert together[1].code == "bad_length"
    assert set(good[0].probabilities) == set(CLASSES)
    assert isinstance(likeliest, Prediction)
    assert len(likeliest.probabilities) == 2
    assert likeliest.unknown == good[0].unknown
    assert likeliest.unknown_score == pytest.approx(good[0].unknown_score, abs=2e-4)


def test_asyncio_does_the_same_at_once(embedded: ServeCommand, dataset: Dataset) -> None:
    images = dataset.test.images[:40]

    async def ask() -> list[np.ndarray]:
        async with AsyncClient(embedded.url) as client:
            assert await client.ready()
            (found,) = await client.classify(encode_image(images[0]))
            assert isinstance(found, Prediction)
            return await asyncio.gather(*(client.predict(image) for image in images))

    with Client(embedded.url) as client:
        together = client.predict(images)
    np.testing.assert_allclose(np.concatenate(asyncio.run(ask())), together, rtol=1e-4, atol=1e-7)


def test_nobody_there_is_not_ready() -> None:
    with Client("http://127.0.0.1:9") as client:
        assert not client.ready()


def test_a_key_is_sent(tmp_path: Path) -> None:
    from tests.support.keys import add_key

    text, _ = add_key(tmp_path / "keys.json")
    environment = {"FASHION_MNIST_KEY_FILE": str(tmp_path / "keys.json")}
    with serve_command(tmp_path, "--engine", "embedded", **environment) as command:
        wait_until(lambda: command.times_ready() == 1 or command.process.poll() is not None, "ready")
        image = np.zeros((28, 28), np.uint8)
        with Client(command.url, key=text) as client:
            assert client.predict(image).shape == (1, 10)
        with Client(command.url) as client, pytest.raises(Unauthorized):
            client.predict(image)
