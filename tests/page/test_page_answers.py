"""What the page shows is what the API answers, whichever way a picture comes in."""

import base64
import random
import re

import httpx
import numpy as np
from playwright.sync_api import Page, expect

from fashion_mnist.data.splits import Dataset
from fashion_mnist.encoding import encode_image
from tests.page.visits import Visit, answer, choose, choose_sample, explained
from training import photographs

PATH = "/predictions/fashion_mnist"
PUT = """([way, name, base64]) => {
    const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
    const data = new DataTransfer();
    data.items.add(new File([bytes], name, { type: 'image/png' }));
    const event = way === 'paste'
        ? new ClipboardEvent('paste', { clipboardData: data, bubbles: true, cancelable: true })
        : new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true });
    document.querySelector('#mistakes').dispatchEvent(event);
}"""


def test_labels_of_test_images_and_photographs_are_the_apis(visit: Visit, address: str, dataset: Dataset) -> None:
    images = dataset.test.images
    kinds = list(photographs.KINDS)
    files = {f"image {index}.png": encode_image(images[index].squeeze()) for index in range(100)}
    for index in range(50):
        kind = kinds[index % len(kinds)]
        files[f"photograph {index}.jpg"] = photographs.photograph([images[index].squeeze()], kind, index)
    with httpx.Client(base_url=address, timeout=30) as client:
        expected = {
            name: client.post(PATH, content=content).json()["predictions"][0]["label"]
            for name, content in files.items()
        }
    page = visit()
    shown = {}
    for name, content in files.items():
        choose(page, name, content)
        shown[name] = answer(page, name)
    assert shown == expected
    assert len(set(shown.values())) > 5


def test_a_picture_can_be_pasted_and_dropped_anywhere(visit: Visit, dataset: Dataset) -> None:
    page = visit()
    content = base64.b64encode(encode_image(dataset.test.images[0].squeeze())).decode()
    for way in ("paste", "drop"):
        page.evaluate(PUT, [way, f"{way}.png", content])
        assert answer(page, f"{way}.png") == "Ankle boot"


def test_the_camera_takes_a_picture(visit: Visit) -> None:
    page = visit(permissions=["camera"])
    page.get_by_role("button", name="Use the camera").click()
    page.get_by_role("button", name="Take the picture").click()
    assert answer(page, "camera picture")
    expect(page.locator("dialog")).to_have_count(0)


def test_a_drawing_is_followed_and_its_answer_is_that_of_its_pixels(visit: Visit, address: str) -> None:
    page = visit()
    page.locator("#draw canvas").scroll_into_view_if_needed()
    box = page.locator("#draw canvas").bounding_box()
    assert box is not None
    across, down = box["width"] / 28, box["height"] / 28
    live: list[str] = []
    page.on("request", lambda request: live.append(request.url) if "steps=0" in request.url else None)
    with page.expect_response(lambda response: response.url.endswith("/explain?prepare=auto")) as last:
        for column in (9, 12, 18):
            page.mouse.move(box["x"] + column * across, box["y"] + 4 * down)
            page.mouse.down()
            page.mouse.move(box["x"] + column * across, box["y"] + 24 * down, steps=15)
            page.mouse.up()
    explained(page)
    assert len(live) > 3
    pixels = bytes(last.value.json()["input"]["values"])
    assert max(pixels) == 255
    answered = httpx.post(address + PATH, content=pixels, headers={"Content-Type": "application/octet-stream"})
    assert answer(page, "drawing") == answered.json()["predictions"][0]["label"]


def test_a_photographs_preparation_can_be_stopped_and_changed(visit: Visit, address: str, dataset: Dataset) -> None:
    photograph = photographs.photograph([dataset.test.images[0].squeeze()], "pastel table", 3)
    page = visit()
    choose(page, "boot.jpg", photograph)
    explained(page)
    steps = page.locator("#preparation .step")
    assert steps.count() >= 3
    whole = answer(page, "boot.jpg")
    steps.first.click()
    expect(steps.first).to_have_attribute("aria-pressed", "true")
    assert steps.count() >= 3
    steps.last.click()
    expect(steps.last).to_have_attribute("aria-pressed", "true")
    assert answer(page, "boot.jpg") == whole
    page.get_by_label("scaled and centred only").check()
    expected = httpx.post(address + PATH, params={"prepare": "none"}, content=photograph).json()["predictions"][0][
        "label"
    ]
    expect(page.locator("#answer-label")).to_have_text(expected)


def number(text: str) -> float:
    return float(text.replace("\N{MINUS SIGN}", "-"))


def numbers(text: str) -> list[float]:
    return [number(found) for found in re.findall(r"[\N{MINUS SIGN}-]?\d+\.\d+", text)]


def test_the_written_arithmetic_adds_up_and_is_the_networks(visit: Visit, address: str, dataset: Dataset) -> None:
    png = encode_image(dataset.test.images[5].squeeze())
    layers = {one["name"]: one for one in httpx.post(f"{address}/explain", content=png).json()["layers"]}
    page = visit()
    choose(page, "five.png", png)
    explained(page)
    chosen = random.Random(0)
    for _ in range(200):
        name = chosen.choice(["conv1", "pool1", "conv2", "pool2", "flatten", "fc1", "fc2", "out", "probabilities"])
        shape = layers[name]["shape"]
        cell = [chosen.randrange(side) for side in shape]
        written = page.evaluate(CHOOSE, [name, shape, cell])
        expected = layers[name]["values"][int(np.ravel_multi_index(cell, shape))]
        assert written["value"] is not None, (name, cell)
        assert abs(number(written["value"]) - expected) <= 1e-4, (name, cell)
        check_sum(written, number(written["value"]), name)


CHOOSE = """async ([name, shape, cell]) => {
    const canvas = document.querySelector(`canvas[aria-label^="${name}: "]`);
    const layer = canvas.closest('.layer');
    canvas.scrollIntoView({ block: 'center', behavior: 'instant' });
    canvas.focus();
    const press = (key) => canvas.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true }));
    const place = () => layer.querySelector('.readout').textContent.match(/\\d+/g).map(Number);
    // Home first: then the cell is so many arrow keys away.
    for (let map = 0; map < (shape.length > 1 ? shape[0] : 0); map++) press('PageUp');
    press('Home');
    if (shape.length > 1) {
        for (let map = 0; map < cell[0]; map++) press('PageDown');
        for (let row = 0; row < cell[1]; row++) press('ArrowDown');
        for (let column = 0; column < cell[2]; column++) press('ArrowRight');
    } else {
        press('ArrowDown');
        const across = place()[0] - 1 || shape[0];
        press('Home');
        for (let row = 0; row < Math.floor(cell[0] / across); row++) press('ArrowDown');
        for (let column = 0; column < cell[0] % across; column++) press('ArrowRight');
    }
    // It is written once a frame.
    await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
    const panel = document.querySelector('.arithmetic');
    const text = (selector) => [...panel.querySelectorAll(selector)].map((element) => element.textContent);
    return {
        value: panel.querySelector('.value')?.textContent,
        sums: text('.sum'),
        kernels: text('.products summary'),
        products: [...panel.querySelectorAll('.products')].map((one) => {
            const grid = one.querySelector('.grids table:last-child');
            const cells = grid ? grid.querySelectorAll('td') : one.querySelectorAll('td:last-child');
            return [...cells].map((element) => element.textContent);
        }),
    };
}"""


def check_sum(written: dict[str, list[str]], value: float, name: str) -> None:
    rounding = 0.5e-4
    if name.startswith("pool"):
        assert max(numbers(written["sums"][0])) == value
    elif name == "probabilities":
        power, total = numbers(written["sums"][0])
        assert abs(power / total - value) <= 2 * rounding
    elif name != "flatten":
        # Kernels are numbered without a point: what has one is a sum or the bias.
        terms = numbers(written["sums"][0])
        assert abs(sum(terms) - value) <= rounding * (len(terms) + 1)
        assert len(written["products"]) == len(terms) - 1
        for products, said in zip(written["products"], terms, strict=False):
            assert abs(sum(map(number, products)) - said) <= rounding * (len(products) + 1)


def test_a_filters_partial_maps_add_up_to_its_map(visit: Visit) -> None:
    page = visit()
    choose_sample(page, "Coat")
    explained(page)
    for name, filters in (("conv1", 6), ("conv2", 12)):
        page.get_by_label("Layer", exact=True).select_option(name)
        for filter_ in range(filters):
            page.get_by_label("Filter", exact=True).select_option(str(filter_))
            assert largest_difference(page) < 1e-4


def largest_difference(page: Page) -> float:
    text = page.locator("#filter-check").inner_text()
    return float(text.rstrip(".").rsplit(" ", 1)[1])


def test_the_layer_table_derives_what_follows_and_says_what_cannot_be(visit: Visit) -> None:
    page = visit()
    total = page.locator("#total-parameters")
    expect(total).to_have_text("32,998")
    page.get_by_label("conv2.out_channels").fill("24")
    expect(total).to_have_text("57,850 (+24,852)")
    page.get_by_label("conv2.kernel_size").fill("12")
    expect(page.locator("#layers .message")).to_contain_text("Choose a smaller kernel_size")
    page.get_by_role("button", name="As it was").click()
    expect(total).to_have_text("32,998")


def test_a_mistaken_test_image_put_through_gets_its_cells_answer(visit: Visit) -> None:
    page = visit()
    page.get_by_role("button", name=re.compile("Shirt taken for Coat: ")).click()
    tile = page.locator(".tile").first
    title = tile.get_attribute("title") or ""
    tile.click()
    expect(page.locator("#answer-label")).to_have_text("Coat")
    assert "Shirt, answered Coat with" in title
    expect(page.locator("#answer .sure")).to_have_text(title.rsplit("with ", 1)[1])


def test_occlusion_is_shown_beside_the_picture(visit: Visit) -> None:
    page = visit()
    choose_sample(page, "Sandal")
    explained(page)
    place = page.locator("#why canvas").nth(1)
    place.focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator("#why .readout").nth(1)).to_contain_text(
        "rows 3\N{EN DASH}8, columns 1\N{EN DASH}6 black: Sandal"
    )


def test_the_service_says_how_it_is_doing(visit: Visit) -> None:
    page = visit()
    page.locator("#service").scroll_into_view_if_needed()
    expect(page.locator("#service")).to_contain_text("Ready")
    expect(page.get_by_role("table", name="Versions of the model")).to_contain_text("92.2 %")
