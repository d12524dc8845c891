"""Rendered photographs: the same for the same seed, JPEGs of people's sizes, and prepared they are understood."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fashion_mnist.data.splits import Dataset, Split
from fashion_mnist.engines import load_file
from fashion_mnist.model_store import model_store_path, unknown_threshold
from fashion_mnist.preparation import prepare
from fashion_mnist.settings import Settings
from fashion_mnist.task import FASHION_MNIST
from training import photograph_evaluation, runs
from training.photograph_pictures import write_pictures
from training.photographs import CASES, KEPT_ASIDE, KINDS, WORKING_SIDE, cut_out, photograph, read

EVERY = {**KINDS, **KEPT_ASIDE, **CASES}


@pytest.fixture(scope="module")
def validation(dataset: Dataset) -> Split:
    images, labels = runs.split(dataset.train)[1]
    return Split(images[:200], labels[:200])


@pytest.mark.parametrize("kind", EVERY)
def test_a_photograph_is_the_same_for_the_same_seed_and_another_for_another(validation: Split, kind: str) -> None:
    two = list(validation.images[:2, 0])
    content = photograph(two, kind, 7)
    assert content == photograph(two, kind, 7)
    assert content != photograph(two, kind, 8)
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.format == "JPEG"
        assert 300 <= max(picture.size) <= 1700
    pixels = read(content)
    assert pixels.ndim == 3
    assert max(pixels.shape) <= WORKING_SIDE


def test_kinds_kept_aside_are_other_kinds() -> None:
    assert len(KINDS) >= 8
    assert len(KEPT_ASIDE) >= 3
    assert len(EVERY) == len(KINDS) + len(KEPT_ASIDE) + len(CASES)


def test_what_is_cut_out_is_where_the_photograph_shows_it(validation: Split) -> None:
    image = validation.images[1, 0]
    for seed in range(5):
        pixels = read(photograph([image], "off centre, wide margins", seed)).astype(int)
        garment = cut_out(image, "off centre, wide margins", seed) > 128
        assert garment.shape == pixels.shape[:2]
        # Fabrics are darker than the ground there.
        assert pixels[garment].mean() < pixels[~garment].mean() - 40


def test_prepared_photographs_are_understood_and_others_are_not(validation: Split) -> None:
    engine = load_file(model_store_path(Settings()) / "model.onnx", "cpu")
    for kind in ("product photograph on white", "wall in falling light"):
        pictures = [read(photograph([image], kind, place)) for place, image in enumerate(validation.images[:, 0])]
        prepared = np.stack([prepare(each, None, FASHION_MNIST, "auto")[0] for each in pictures])
        plain = np.stack([prepare(each, None, FASHION_MNIST, "none")[0] for each in pictures])
        assert (engine.predict(prepared).argmax(axis=1) == validation.labels).mean() > 0.82
        assert (engine.predict(plain).argmax(axis=1) == validation.labels).mean() < 0.5


def test_the_evaluation_has_a_row_for_each_kind(validation: Split) -> None:
    store = model_store_path(Settings())
    engine = load_file(store / "model.onnx", "cpu")
    rows = list(photograph_evaluation.evaluate(engine.predict, validation, unknown_threshold(store), 2, 0))
    assert len(rows) == photograph_evaluation.ROWS
    assert [row["kind"] for row in rows] == [*EVERY, *photograph_evaluation.FILES]
    for row in rows:
        assert row["images"] == 2
        assert set(row["unknown"]) >= {"none", "auto", "paper"}
        assert bool(row["accuracies"]) != row["kind"].startswith("none")
        assert ("ceiling" in row) == (row["kind"] in {**KINDS, **KEPT_ASIDE})


def test_pictures_of_the_steps_are_small(validation: Split, tmp_path: Path) -> None:
    paths = write_pictures(validation.images[0, 0], 0, tmp_path / "pictures")
    assert len(paths) == 6
    assert sum(path.stat().st_size for path in paths) <= 60_000
    for path in paths:
        with Image.open(path) as picture:
            picture.verify()
