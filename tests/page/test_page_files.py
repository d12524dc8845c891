"""Many files at once, and files that cannot be answered: a sentence each, and nothing lost."""

import csv
import io
import json
import re
import time
from pathlib import Path

import httpx
import numpy as np
from PIL import Image
from playwright.sync_api import Page, Route, expect

from fashion_mnist.data.splits import Dataset
from fashion_mnist.encoding import encode_image
from tests.page.visits import Visit, answer, choose, choose_sample

PATH = "/predictions/fashion_mnist"


def write_images(folder: Path, dataset: Dataset, count: int) -> list[Path]:
    paths = []
    for index in range(count):
        path = folder / f"image{index:03}.png"
        path.write_bytes(encode_image(dataset.test.images[index].squeeze()))
        paths.append(path)
    return paths


def choose_all(page: Page, paths: list[Path]) -> None:
    page.locator("input[type=file]").first.set_input_files(paths)


def download(page: Page, name: str) -> str:
    with page.expect_download() as download:
        page.get_by_role("button", name=name).click()
    return Path(download.value.path()).read_bytes().decode()


def test_500_files_have_a_row_each_with_the_apis_answer(
    visit: Visit, address: str, dataset: Dataset, tmp_path: Path
) -> None:
    paths = write_images(tmp_path, dataset, 498)
    broken, text = tmp_path / "broken.png", tmp_path / "notes, old.txt"
    broken.write_bytes(paths[0].read_bytes()[:200])
    text.write_text("no picture at all")
    page = visit()
    choose_all(page, [*paths, broken, text])
    expect(page.locator("#batch .state")).to_have_text("500 of 500 pictures, 2 errors", timeout=60_000)
    expect(page.locator("#batch progress")).to_have_js_property("value", 500)
    expect(page.locator("#batch tbody tr")).to_have_count(500)
    rows = {row["file"]: row for row in csv.DictReader(io.StringIO(download(page, "Download CSV")))}
    predictions = []
    for start in range(0, 498, 83):
        files = [("image", path.read_bytes()) for path in paths[start : start + 83]]
        predictions += httpx.post(address + PATH, files=files, timeout=30).json()["predictions"]
    assert [rows[path.name]["label"] for path in paths] == [prediction["label"] for prediction in predictions]
    assert "truncated" in rows["broken.png"]["error"]
    assert rows["notes, old.txt"]["error"]
    assert rows["notes, old.txt"]["label"] == ""
    kept = {row["file"]: row for row in json.loads(download(page, "Download JSON"))}
    assert kept["image000.png"]["probabilities"] == predictions[0]["probabilities"]


def test_the_table_sorts_and_a_row_is_put_through(visit: Visit, dataset: Dataset, tmp_path: Path) -> None:
    page = visit()
    choose_all(page, write_images(tmp_path, dataset, 12))
    expect(page.locator("#batch tbody tr")).to_have_count(12)
    page.get_by_role("button", name="Probability").click()
    shown = page.locator("#batch tbody tr td:nth-child(4)").all_inner_texts()
    values = [100.0 if text.startswith(">") else float(text.split()[0]) for text in shown]
    assert values == sorted(values, reverse=True)
    head = page.locator("#batch th", has=page.get_by_role("button", name="Probability"))
    expect(head).to_have_attribute("aria-sort", "descending")
    page.get_by_role("button", name="Answer").click()
    labels = page.locator("#batch tbody tr td:nth-child(3)").all_inner_texts()
    assert labels == sorted(labels)
    page.get_by_role("button", name="image000.png").click()
    assert answer(page, "image000.png") == "Ankle boot"


def test_a_cancelled_run_keeps_its_answers_and_goes_on(visit: Visit, dataset: Dataset, tmp_path: Path) -> None:
    page = visit()
    held: list[Route] = []

    def second(route: Route) -> None:
        if held or not shown(page):
            route.continue_()
        else:
            held.append(route)

    page.route("**" + PATH + "*", second)
    choose_all(page, write_images(tmp_path, dataset, 150))
    expect(page.locator("#batch tbody tr")).to_have_count(64)
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#batch .message")).to_have_text("Cancelled: 86 pictures not sent.")
    page.get_by_role("button", name="Go on").click()
    expect(page.locator("#batch .state")).to_have_text("150 of 150 pictures")


def test_a_server_that_is_gone_in_the_middle_loses_no_answer(visit: Visit, dataset: Dataset, tmp_path: Path) -> None:
    page = visit(expected="Failed to load resource")
    page.route("**" + PATH + "*", lambda route: route.continue_() if not shown(page) else route.abort())
    choose_all(page, write_images(tmp_path, dataset, 100))
    message = page.locator("#batch .message")
    expect(message).to_contain_text("The server does not answer")
    expect(message).to_contain_text("64 answers of 100 stay here")
    page.unroute("**" + PATH + "*")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#batch .state")).to_have_text("100 of 100 pictures")
    expect(message).to_have_count(0)


def shown(page: Page) -> int:
    """Rows of the table."""
    return page.locator("#batch tbody tr").count()


def test_bad_files_are_a_sentence_each_that_says_what_to_do(visit: Visit, tmp_path: Path) -> None:
    page = visit(expected="Failed to load resource")
    message = page.locator("#answer .message")
    choose(page, "notes.txt", b"no picture at all", "text/plain")
    expect(message).to_contain_text(re.compile("send|none of"))
    choose(page, "empty.png", b"", "image/png")
    expect(message).to_have_text("empty.png is empty (0 bytes): choose another file, or save this one again.")
    large = tmp_path / "large.tif"
    with large.open("wb") as file:
        file.truncate(100_000_000)
    page.locator("input[type=file]").first.set_input_files(large)
    expect(message).to_have_text("large.tif has 100 MB, and this server takes up to 17 MB: make it smaller first.")
    huge = io.BytesIO()
    Image.fromarray(np.zeros((20_000, 20_000), bool)).save(huge, "PNG")
    choose(page, "huge.png", huge.getvalue(), "image/png")
    expect(message).to_contain_text("pixels")
    expect(page.locator("#answer-label")).to_be_empty()
    choose_sample(page, "Trouser")
    expect(page.locator("#answer-label")).to_have_text("Trouser")
    expect(message).to_have_count(0)


def test_a_file_of_many_images_has_a_row_for_each(visit: Visit, dataset: Dataset, tmp_path: Path) -> None:
    arrays, picture = tmp_path / "three.npy", tmp_path / "one.png"
    np.save(arrays, dataset.test.images[:3].reshape(3, 28, 28))
    picture.write_bytes(encode_image(dataset.test.images[3].squeeze()))
    page = visit()
    choose_all(page, [arrays, picture])
    expect(page.locator("#batch tbody tr")).to_have_count(4)
    names = page.locator("#batch tbody th").all_inner_texts()
    assert names == ["one.png", "three.npy [0]", "three.npy [1]", "three.npy [2]"]


def test_the_first_bars_are_there_before_the_explanation(visit: Visit, dataset: Dataset) -> None:
    page = visit()
    held: list[Route] = []
    page.route("**/explain*", lambda route: held.append(route))
    choose(page, "boot.png", encode_image(dataset.test.images[0].squeeze()), "image/png")
    assert answer(page, "boot.png") == "Ankle boot"
    expect(page.locator("#answer .winner .number")).to_contain_text("99.9 %")
    started = time.monotonic()
    while not held and time.monotonic() - started < 10:
        page.wait_for_timeout(10)
    held[0].continue_()
    page.wait_for_selector("#network:not(.needs-picture)")
