"""The answer: one shape, with every digit that a float32 has."""

import json

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from fashion_mnist.classes import CLASSES
from fashion_mnist.decoding.decoded import Decoded
from fashion_mnist.errors import BadParameter, CorruptImage, InputError
from fashion_mnist.predictions import (
    encode_binary,
    encode_error,
    encode_json,
    first_error_index,
    parse_top_k,
    wants_binary,
)

PROBABILITIES = np.random.default_rng(0).dirichlet(np.ones(10), 3).astype(np.float32)
PIXELS = np.zeros((3, 28, 28), np.uint8)


def test_an_answer_has_label_index_and_all_probabilities() -> None:
    answer = json.loads(encode_json(PROBABILITIES, Decoded(PIXELS), "1.0", 5.0))
    assert answer["model_version"] == "1.0"
    for prediction, row in zip(answer["predictions"], PROBABILITIES, strict=True):
        assert prediction["index"] == row.argmax()
        assert prediction["label"] == CLASSES[row.argmax()]
        assert tuple(prediction["probabilities"]) == CLASSES
        assert np.array_equal(np.array(list(prediction["probabilities"].values()), np.float32), row)


@given(st_numpy.arrays(np.float32, (2, 10), elements=st.floats(0, 1, width=32)))
def test_json_gives_every_float32_back_exactly(probabilities: np.ndarray) -> None:
    assume(probabilities.any(axis=1).all())
    answer = json.loads(encode_json(probabilities, Decoded(PIXELS[:2]), "1", 5.0))
    read = [list(prediction["probabilities"].values()) for prediction in answer["predictions"]]
    assert np.array_equal(np.array(read, np.float32), probabilities)


@pytest.mark.parametrize("top_k", range(1, 10))
def test_top_k_gives_the_likeliest_first(top_k: int) -> None:
    answer = json.loads(encode_json(PROBABILITIES, Decoded(PIXELS), "1.0", 5.0, top_k))
    for prediction, row in zip(answer["predictions"], PROBABILITIES, strict=True):
        best = np.argsort(-row)[:top_k]
        assert list(prediction["probabilities"]) == [CLASSES[index] for index in best]
        assert prediction["label"] == CLASSES[best[0]]


@pytest.mark.parametrize("text", ["0", "11", "-1", "1.5", "three", "", "9" * 5000, "\uff11"])
def test_a_bad_top_k_is_refused(text: str) -> None:
    with pytest.raises(BadParameter, match="top_k"):
        parse_top_k(text)


def test_bad_and_adjusted_images_say_so_in_their_places() -> None:
    decoded = Decoded(PIXELS, {0: CorruptImage("cut"), 3: CorruptImage("altered")}, {2: ["resized from 5 x 5"]})
    predictions = json.loads(encode_json(PROBABILITIES, decoded, "1.0", 5.0))["predictions"]
    assert [sorted(prediction) for prediction in predictions] == [
        ["error"],
        ["index", "label", "probabilities", "unknown", "unknown_score"],
        ["adjusted", "index", "label", "probabilities", "unknown", "unknown_score"],
        ["error"],
        ["index", "label", "probabilities", "unknown", "unknown_score"],
    ]
    assert predictions[3]["error"] == {"code": "corrupt_image", "message": "altered", "index": 3}
    assert [predictions[place]["index"] for place in (1, 2, 4)] == PROBABILITIES.argmax(axis=1).tolist()


def test_where_every_image_is_bad_the_request_is() -> None:
    decoded = Decoded(PIXELS[:0], {0: CorruptImage("cut"), 1: CorruptImage("altered")})
    with pytest.raises(CorruptImage, match="cut"):
        encode_json(PROBABILITIES[:0], decoded, "1.0", 5.0)
    assert first_error_index(decoded) == 0


def test_octets_are_the_numbers_themselves() -> None:
    content = encode_binary(PROBABILITIES, Decoded(PIXELS))
    assert np.array_equal(np.frombuffer(content, "<f4").reshape(-1, 10), PROBABILITIES)


def test_octets_have_no_room_for_an_error() -> None:
    decoded = Decoded(PIXELS, {1: CorruptImage("cut")})
    with pytest.raises(CorruptImage):
        encode_binary(PROBABILITIES, decoded)
    assert first_error_index(decoded) == 1


def test_an_error_has_one_shape() -> None:
    assert json.loads(encode_error(InputError("change this"))) == {
        "error": {"code": "bad_request", "message": "change this"}
    }
    assert json.loads(encode_error(InputError("change this"), 4))["error"]["index"] == 4


@pytest.mark.parametrize(
    ("accept", "binary"),
    [
        ("", False),
        ("*/*", False),
        ("application/*", False),
        ("application/json", False),
        ("application/octet-stream", True),
        ("Application/Octet-Stream", True),
        ("application/octet-stream, application/json", True),
        ("application/octet-stream, */*;q=0.1", True),
        ("application/octet-stream;q=0, application/json", False),
        ("application/octet-stream;q=0.5, application/json", False),
        ("application/octet-stream; q=0.9 ,application/json;q=0.5", True),
        ("application/octet-stream;q=much", False),
        ("application/octet-streams", False),
    ],
)
def test_accept_is_read_by_its_weights(accept: str, binary: bool) -> None:
    assert wants_binary(accept) == binary
