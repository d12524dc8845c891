"""Parity: what counts as the same answer."""

import numpy as np
import pytest

from export.parity import LIMIT, compare
from fashion_mnist.errors import ExportError

EXPECTED = np.array([[0.6, 0.4], [0.2, 0.8]], np.float32)


def test_rounding_is_allowed() -> None:
    parity = compare("onnx", EXPECTED, EXPECTED + np.float32(LIMIT / 2))
    parity.check()
    assert parity.images == 2
    assert 0 < parity.largest_difference <= LIMIT


def test_more_than_rounding_is_not() -> None:
    found = EXPECTED.copy()
    found[1, 0] += 3e-5
    with pytest.raises(ExportError, match=r"0 of 2 labels differ, .* 3\.0e-05 \(at most 1e-05\); the old files"):
        compare("onnx", EXPECTED, found).check()


def test_one_other_label_is_too_many_however_small_the_difference() -> None:
    expected = np.array([[0.5000001, 0.4999999]], np.float32)
    with pytest.raises(ExportError, match="1 of 1 labels differ"):
        compare("torchscript", expected, expected[:, ::-1]).check()


def test_not_a_number_is_no_parity() -> None:
    found = EXPECTED.copy()
    found[0, 1] = np.nan
    with pytest.raises(ExportError, match="onnx disagrees"):
        compare("onnx", EXPECTED, found).check()
