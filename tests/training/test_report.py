"""A run's page, the table of runs, and the comparison of two."""

import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from fashion_mnist.classes import CLASSES
from fashion_mnist.data.splits import Dataset, Split
from fashion_mnist.errors import UsageError
from tests.support.command import COMMAND
from training import comparison, report, runs
from training.recipes import COURSE, QUICK


@pytest.fixture(scope="module")
def few(dataset: Dataset) -> Dataset:
    return Dataset(dataset.train, Split(dataset.test.images[:1000], dataset.test.labels[:1000]))


@pytest.fixture(scope="module")
def folder(few: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs: one recipe that hardly learns and one that learns more, each with three seeds."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in range(3):
        runs.train(replace(COURSE, epochs=1), few, folder / f"course-{seed}", seed=seed, train_images=200)
        runs.train(replace(QUICK, epochs=2), few, folder / f"quick-{seed}", seed=seed, train_images=8000)
    return folder


def test_the_page_needs_no_other_file(few: Dataset, folder: Path) -> None:
    page = report.page(folder / "quick-0", few)
    assert not re.search(r'(src|href)="(?!data:)', page)
    for heading in ("Training", "Classes", "Confusion matrix", "Reliability", "Hardest test images", "Filters"):
        assert f"<h2>{heading}</h2>" in page
    summary = json.loads((folder / "quick-0" / "training_summary.json").read_text())
    assert f"{summary['test_accuracy']:.2%} of 1,000 test images right" in page
    assert page.count('alt="test image ') == report.HARDEST
    for label in CLASSES:
        assert label in page


def test_the_command_writes_the_page(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "page.html"
    command = [COMMAND, "report", str(folder / "quick-1"), "--output", str(output)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    assert output.read_text().startswith("<!doctype html>")
    listed = subprocess.run(
        [COMMAND, "report", "--runs", str(folder)], check=True, capture_output=True, text=True, timeout=120
    ).stdout
    assert listed.splitlines()[0].startswith("| recipe | seeds |")
    assert [line.split(" | ")[0:2] for line in listed.splitlines()[2:]] == [["| course", "3"], ["| quick", "3"]]


def test_the_table_has_a_row_for_each_recipe(folder: Path) -> None:
    course, quick = report.recipe_rows(report.finished(folder))
    assert (course["recipe"], course["seeds"], course["epochs"]) == ("course", 3, 1)
    assert re.fullmatch(r"\d+\.\d\d% ± \d+\.\d\d%", quick["test"])
    assert float(quick["test"].partition("%")[0]) > float(course["test"].partition("%")[0])


def test_runs_that_differ_differ_beyond_the_images_choice(few: Dataset, folder: Path) -> None:
    found = comparison.compare(folder / "course-0", folder / "quick-0", few.test)
    assert found["runs"]["accuracies"][0] < found["runs"]["accuracies"][1]
    assert found["runs"]["chance"] < 0.01
    # Of the 20 ways to deal out three and three, two differ so much.
    assert found["seeds"]["chance"] == pytest.approx(0.1)
    assert [len(values) for values in found["seeds"]["accuracies"]] == [3, 3]


def test_the_same_recipe_is_noise(few: Dataset, folder: Path) -> None:
    found = comparison.compare(folder / "quick-0", folder / "quick-1", few.test)
    assert found["seeds"]["same_recipe"]
    assert found["seeds"]["chance"] is None


def test_compare_for_people(folder: Path) -> None:
    command = [COMMAND, "compare", str(folder / "course-0"), str(folder / "quick-0")]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    assert "beyond the noise of the choice of images" in said
    assert "within the noise of the seeds (p = 0.1)" in said


def test_chances() -> None:
    assert comparison.mcnemar(0, 0) == comparison.mcnemar(5, 5) == 1
    assert comparison.mcnemar(0, 10) == pytest.approx(2 / 1024)
    assert comparison.mcnemar(2, 8) == comparison.mcnemar(8, 2) == pytest.approx(2 * 56 / 1024)
    assert comparison.permutation_test([0.1, 0.2], [0.8, 0.9]) == pytest.approx(1 / 3)
    assert comparison.permutation_test([0.5, 0.5], [0.5, 0.5]) == 1


def test_a_run_that_is_not_finished_is_named(few: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no finished run"):
        report.page(tmp_path, few)
    with pytest.raises(UsageError, match="no finished run"):
        comparison.compare(tmp_path, tmp_path, few.test)
    assert report.recipe_rows(report.finished(tmp_path)) == []
