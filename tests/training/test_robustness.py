"""What is done to test images: as much as it says, and less accurate answers where it is more."""

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

from fashion_mnist.data.splits import Dataset, Split
from fashion_mnist.engines import load_file
from fashion_mnist.errors import DatasetError
from fashion_mnist.model_store import model_store_path
from fashion_mnist.settings import Settings
from training import corruptions
from training.robustness import inversion, robustness, rotation, scale, shear, shift


@pytest.fixture(scope="module")
def few(dataset: Dataset) -> Split:
    return Split(dataset.test.images[:1000], dataset.test.labels[:1000])


@pytest.mark.parametrize(("change", "nothing"), [(shift, 0), (rotation, 0), (shear, 0), (scale, 1), (inversion, 0)])
def test_at_no_strength_nothing_changes(few: Split, change: object, nothing: float) -> None:
    assert callable(change)
    assert np.array_equal(change(few.images, nothing), few.images)


def test_changes_are_what_they_say(few: Split) -> None:
    images = few.images
    assert np.array_equal(shift(images, 2)[0, 0, :-2, :-2], images[0, 0, 2:, 2:])
    assert np.array_equal(rotation(images, 90)[0, 0], np.rot90(images[0, 0]))
    assert np.array_equal(inversion(images, 1), 255 - images)
    light = [each.astype(float).sum(axis=(1, 2, 3)).mean() for each in (scale(images, 0.5), images)]
    assert light[0] == pytest.approx(light[1] / 4, rel=0.02)
    bar = np.zeros((1, 1, 28, 28), np.uint8)
    bar[..., 13:15] = 255
    columns = shear(bar, 0.5)[0, 0].argmax(axis=1)
    assert columns[27] - columns[0] == pytest.approx(13.5, abs=1)


def test_more_of_a_change_is_not_easier(few: Split) -> None:
    engine = load_file(model_store_path(Settings()) / "model.onnx", "cpu")
    images = np.stack([few.images[:500]] * 5)
    found = robustness(engine.predict, few, {"fog": images}, threshold=5.0)
    assert found["images"] == 500
    clean, corrupted, *rest = found["rows"]
    assert corrupted["accuracy"] == pytest.approx(clean["accuracy"])
    assert found["groups"]["corruption"]["worst"]["kind"] == "fog"
    assert [row["kind"] for row in rest] == ["shift", "rotation", "shear", "scale", "inversion"]
    for row in rest:
        accuracies = list(row["strengths"].values())
        assert row["flagged"] >= clean["flagged"]
        assert row["accuracy"] < clean["accuracy"]
        if row["kind"] != "scale":
            assert all(low <= high + 0.02 for high, low in itertools.pairwise(accuracies))


def test_corrupted_images_are_made_once_by_the_other_interpreter(
    few: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, numpy as np\n"
        "kind, count, target = sys.argv[1:]\n"
        "images = np.frombuffer(sys.stdin.buffer.read(), np.uint8).reshape(int(count), 28, 28)\n"
        "np.save(target, np.stack([images] * 5))\n"
    )
    monkeypatch.setattr(corruptions, "_SCRIPT", script)
    monkeypatch.setattr(corruptions, "KINDS", ("fog", "snow"))
    images, told = few.images[:10], []
    assert corruptions.load(images) is None
    corruptions.make(images, Path(sys.executable), lambda kind, done: told.append((kind, done)))
    assert told == [("fog", 0), ("snow", 1)]
    found = corruptions.load(images)
    assert found is not None
    assert np.array_equal(found["snow"][4], images)
    with pytest.raises(DatasetError, match="fog cannot be made"):
        script.write_text("raise SystemExit('no such package')")
        corruptions.make(images, Path(sys.executable), lambda kind, done: None)
