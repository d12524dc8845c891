"""Preparation: photographs become what the network knows, and what it knows already stays as it is."""

import io
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from fashion_mnist import preparation
from fashion_mnist.classes import GEOMETRY
from fashion_mnist.data.splits import Dataset
from fashion_mnist.engines import load_file
from fashion_mnist.errors import BadParameter
from fashion_mnist.model_store import model_store_path, unknown_threshold
from fashion_mnist.ood import unknown_scores
from fashion_mnist.preparation import NOTHING_FOUND, Mode, check_mode, parse_mode
from fashion_mnist.preparation.background import coordinates, from_border
from fashion_mnist.preparation.fitting import Box, Pixels, blend, bounds, fit, fitted_size, resample
from fashion_mnist.preparation.garment import find, main_direction, shadow
from fashion_mnist.preparation.paper import as_the_paper, trim
from fashion_mnist.settings import Settings
from fashion_mnist.task import FASHION_MNIST, Geometry, Task

MODES: tuple[Mode, ...] = get_args(Mode)
SIDES = st.integers(1, 90)


def prepare(pixels: Pixels, alpha: Pixels | None, task: Task, mode: Mode) -> tuple[Pixels, list[str]]:
    """The one channel of what is prepared, uint8 [height, width], and what was done."""
    (plane,), done = preparation.prepare(pixels, alpha, task, mode)
    return plane, done


@st.composite
def pictures(draw: st.DrawFn) -> tuple[Pixels, Pixels | None]:
    height, width = draw(st.one_of(st.tuples(SIDES, SIDES), st.sampled_from([(1, 448), (448, 1), (2, 300), (28, 28)])))
    shape = draw(st.sampled_from([(height, width), (height, width, 3)]))
    # Few numbers fill most of an array: constant pictures, and such with some pixels in them, are common.
    pixels = draw(arrays(np.uint8, shape, elements=st.integers(0, 255), fill=st.integers(0, 255)))
    alphas = arrays(np.uint8, (height, width), elements=st.integers(0, 255), fill=st.sampled_from([0, 255]))
    return pixels, draw(st.none() | alphas)


@settings(max_examples=200, deadline=None)
@given(pictures(), st.sampled_from(MODES))
def test_any_picture_can_be_prepared_and_always_alike(picture: tuple[Pixels, Pixels | None], mode: Mode) -> None:
    pixels, alpha = picture
    before = pixels.copy()
    prepared, done = prepare(pixels, alpha, FASHION_MNIST, mode)
    assert prepared.shape == (GEOMETRY.height, GEOMETRY.width)
    assert prepared.dtype == np.uint8
    assert all(done)
    again, done_again = prepare(pixels, alpha, FASHION_MNIST, mode)
    assert np.array_equal(prepared, again)
    assert done == done_again
    assert np.array_equal(pixels, before)


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 255), st.integers(0, 2**32 - 1))
def test_another_geometry_is_kept_to(height: int, width: int, level: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, level + 1, (70, 50), np.uint8)
    for mode in MODES:
        prepared, _ = prepare(pixels, None, replace(FASHION_MNIST, geometry=Geometry(1, height, width)), mode)
        assert prepared.shape == (height, width)


@given(arrays(np.uint8, (28, 28)))
def test_auto_leaves_grayscale_of_the_networks_size_alone(pixels: Pixels) -> None:
    prepared, done = prepare(pixels, None, FASHION_MNIST, "auto")
    assert np.array_equal(prepared, pixels)
    assert done == []


@settings(deadline=None)
@given(st.integers(30, 120), st.integers(30, 120), st.integers(0, 255))
def test_of_one_colour_nothing_is_found_and_the_answer_is_unknown(height: int, width: int, level: int) -> None:
    prepared, done = prepare(np.full((height, width), level, np.uint8), None, FASHION_MNIST, "auto")
    assert done == [NOTHING_FOUND]
    assert not prepared.any()


def test_the_model_does_not_know_what_nothing_is() -> None:
    store = model_store_path(Settings())
    nothing = np.zeros((1, *GEOMETRY), np.uint8)
    (score,) = unknown_scores(load_file(store / "model.onnx", "cpu").predict(nothing))
    assert score > unknown_threshold(store)


def test_none_scales_and_centres_only(dataset: Dataset) -> None:
    image = dataset.test.images[0, 0]
    tall = np.kron(image, np.ones((20, 10), np.uint8))
    prepared, done = prepare(tall, None, FASHION_MNIST, "none")
    expected = np.zeros_like(image)
    expected[:, 7:21] = np.rint(image.reshape(28, 14, 2).mean(axis=2) + 1e-4)
    assert np.array_equal(prepared, expected)
    assert done == ["resized from 280 x 560"]


@pytest.mark.parametrize("place", range(10))
def test_enlarged_images_of_the_data_set_are_scaled_only(dataset: Dataset, place: int) -> None:
    image = dataset.test.images[place, 0]
    enlarged = np.kron(image, np.ones((10, 10), np.uint8))
    assert np.array_equal(prepare(enlarged, None, FASHION_MNIST, "auto")[0], image)
    assert np.array_equal(prepare(enlarged, None, FASHION_MNIST, "none")[0], image)


@pytest.mark.parametrize("place", range(10))
def test_negatives_are_inverted(dataset: Dataset, place: int) -> None:
    image = dataset.test.images[place, 0]
    both: tuple[tuple[Mode, int], ...] = (("always", 1), ("auto", 10))
    for mode, times in both:
        prepared, done = prepare(np.kron(255 - image, np.ones((times, times), np.uint8)), None, FASHION_MNIST, mode)
        assert {"inverted", "background removed"} <= set(done)
        # But for its contrast it is the image.
        assert np.corrcoef(prepared.ravel(), image.ravel())[0, 1] > 0.97


def test_what_was_done_is_named(dataset: Dataset) -> None:
    photograph = np.full((400, 300, 3), (250, 240, 230), np.uint8)
    photograph[100:300, 50:190] = 40
    _, done = prepare(photograph, None, FASHION_MNIST, "auto")
    assert done[0] == "background removed"
    assert done[2:] == ["converted to grayscale", "inverted", "contrast stretched", "resized from 300 x 400"]
    width, height = map(int, done[1].removeprefix("cropped to ").split(" x "))
    assert width == pytest.approx(140, abs=12)
    assert height == pytest.approx(200, abs=12)


def test_equally_bright_colours_are_told_apart() -> None:
    photograph = np.full((200, 200, 3), (200, 100, 100), np.uint8)
    photograph[40:160, 70:130] = (100, 150, 104)
    prepared, _ = prepare(photograph, None, FASHION_MNIST, "auto")
    assert prepared[:, 10:18].mean() > 220
    assert prepared[:, :6].max() == prepared[:, 22:].max() == 0


def test_transparent_is_ground() -> None:
    pixels = np.full((300, 200, 3), 60, np.uint8)
    alpha = np.zeros((300, 200), np.uint8)
    alpha[50:250, 60:140] = 255
    dark, done = prepare(pixels, alpha, FASHION_MNIST, "auto")
    assert done[0] == "transparency laid over white"
    assert dark[1:-1, 12:16].min() > 220
    bright, done = prepare(pixels * 3, alpha, FASHION_MNIST, "auto")
    assert done[0] == "transparency laid over black"
    assert bright[1:-1, 12:16].min() > 170
    nothing, done = prepare(pixels, np.zeros_like(alpha), FASHION_MNIST, "auto")
    assert done[-1] == NOTHING_FOUND
    assert not nothing.any()


def test_modes_are_told_by_their_names() -> None:
    assert [parse_mode(name) for name in MODES] == list(MODES)
    with pytest.raises(BadParameter, match="auto, always, paper or none"):
        parse_mode("Auto")


def test_a_ground_is_found_behind_what_covers_a_third_of_the_border() -> None:
    y, x = coordinates(60)[:, None], coordinates(80)[None, :]
    plane = 150 + 40 * x - 25 * y
    image = plane.copy()
    image[10:50, :30] = 20
    image[:15, 30:45] = 20
    found = from_border(image[:, :, None]).at(coordinates(60), coordinates(80))[:, :, 0]
    assert np.abs(found - plane).max() < 1


@settings(deadline=None)
@given(st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda each: np.linalg.norm(each) > 0.1), st.integers(0, 2**32 - 1))
def test_the_main_direction_points_from_garment_to_ground(colour: tuple[float, float, float], seed: int) -> None:
    wanted = np.array(colour) / np.linalg.norm(colour)
    amounts = np.random.default_rng(seed).uniform(0, 200, (20, 20, 1))
    assert main_direction((amounts * wanted).astype(np.float32)) == pytest.approx(wanted, abs=0.01)


def test_a_soft_shadow_is_no_garment_and_a_hard_edge_is() -> None:
    values = np.zeros((112, 112), np.float32)
    values[30:80, 60:90] = np.linspace(0, 30, 30)[::-1]
    values[30:80, 30:60] = 120
    shaded = shadow(values, threshold=15, contrast=120, noise=0.5)
    assert shaded[35:75, 68:].all()
    assert not shaded[30:80, 30:60].any()


def test_a_garment_is_found_where_it_is() -> None:
    picture = np.full((300, 400), 230, np.uint8)
    picture[60:180, 220:300] = 50
    garment = find(picture, GEOMETRY)
    assert garment is not None
    assert garment.dark
    assert garment.box == pytest.approx(Box(60, 220, 180, 300), abs=8)


def test_resampling_keeps_the_mean_and_what_is_even() -> None:
    values = np.random.default_rng(0).uniform(0, 255, (37, 91)).astype(np.float32)
    assert resample(values, 28, 13).mean() == pytest.approx(values.mean(), rel=1e-4)
    assert np.array_equal(resample(np.full((5, 9), 7, np.float32), 20, 28), np.full((20, 28), 7, np.float32))
    assert fitted_size(1, 5000, GEOMETRY) == (1, 28)
    assert bounds(np.zeros((3, 3), np.bool_)) is None


def test_laying_over_a_ground_mixes_by_opacity() -> None:
    pixels = np.array([[200, 200, 200]], np.uint8)
    alpha = np.array([[0, 128, 255]], np.uint8)
    assert blend(pixels, alpha, 0).tolist() == [[0, 100, 200]]
    assert blend(pixels, alpha, 255).tolist() == [[255, 227, 200]]


def test_the_papers_steps_are_the_papers() -> None:
    picture = np.full((120, 100, 3), 252, np.uint8)
    picture[30:86, 40:68] = 80
    assert trim(picture).shape == (56, 28, 3)
    _, prepared = as_the_paper(picture, GEOMETRY)
    # The longest edge becomes 28, and the shortest is extended: 14 of 28 columns are garment, negated.
    assert (prepared[:, :7] == 0).all()
    assert (prepared[1:-1, 8:20] == 175).all()
    _, done = prepare(picture, None, FASHION_MNIST, "paper")
    assert done == ["cropped to 28 x 56", "resized from 100 x 120", "sharpened", "inverted"]
    assert np.array_equal(prepare(np.full((9, 9), 200, np.uint8), None, FASHION_MNIST, "paper")[0][14, 14], 55)


def test_saved_as_jpeg_an_image_of_the_data_set_is_still_known(dataset: Dataset) -> None:
    content = io.BytesIO()
    Image.fromarray(dataset.test.images[1, 0]).resize((280, 280)).save(content, "JPEG", quality=85)
    pixels = np.asarray(Image.open(content))
    prepared, done = prepare(pixels, None, FASHION_MNIST, "auto")
    assert done == ["resized from 280 x 280"]
    assert np.array_equal(prepared, fit(pixels, GEOMETRY))


def test_the_middle_is_cropped_where_the_task_asks_for_it() -> None:
    task = replace(FASHION_MNIST, geometry=Geometry(3, 8, 8), resize=12, bright_on_black=False)
    picture = np.zeros((24, 48, 3), np.uint8)
    picture[:, 16:32] = (200, 100, 50)  # the middle third, which is 8 wide when the height is 12
    prepared, done = preparation.prepare(picture, None, task, "auto")
    assert prepared.shape == (3, 8, 8)
    assert (prepared == np.array([200, 100, 50])[:, None, None]).all()
    assert done == ["resized from 48 x 24"]


def test_only_images_that_are_bright_on_black_lose_their_background() -> None:
    task = replace(FASHION_MNIST, bright_on_black=False)
    white = np.full((56, 56), 255, np.uint8)
    white[20:36, 20:36] = 0
    prepared, done = prepare(white, None, task, "auto")
    assert (prepared[0, 0], prepared[14, 14]) == (255, 0)
    assert done == ["resized from 56 x 56"]
    with pytest.raises(BadParameter, match="bright objects on black"):
        check_mode("always", task)
