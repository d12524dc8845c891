"""How fast the page follows: from a drop to the first bars, and how many answers a second while somebody draws."""

import json
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from playwright.sync_api import sync_playwright
from rich.console import Console

from benchmarks import servers
from benchmarks.machine import machine
from fashion_mnist.classes import GEOMETRY
from fashion_mnist.errors import UsageError
from fashion_mnist.system import atomic
from fashion_mnist.system.commit import commit

FIRST_BARS_MS: Final = 100.0
UPDATES_PER_S: Final = 30.0

_DROP: Final = """async (url) => {
    const bytes = await (await fetch(url)).blob();
    const data = new DataTransfer();
    data.items.add(new File([bytes], `${performance.now()}.png`, { type: 'image/png' }));
    const label = document.querySelector('#answer-label');
    const started = performance.now();
    document.dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));
    while (!label.textContent) await new Promise(requestAnimationFrame);
    return performance.now() - started;
}"""

_DRAW: Final = """async ([seconds, side]) => {
    const canvas = document.querySelector('#draw canvas');
    canvas.scrollIntoView({ block: 'center', behavior: 'instant' });
    canvas.setPointerCapture = () => {};
    const box = canvas.getBoundingClientRect();
    let updates = 0;
    new MutationObserver(() => updates++).observe(document.querySelector('#answer-label'), { childList: true });
    const point = (type, step) => canvas.dispatchEvent(new PointerEvent(type, {
        bubbles: true,
        buttons: 1,
        clientX: box.left + box.width * (0.5 + 0.4 * Math.sin(step / 9)),
        clientY: box.top + box.height * ((step / 4) % side) / side,
    }));
    point('pointerdown', 0);
    const started = performance.now();
    for (let step = 1; performance.now() - started < 1000 * seconds; step++) {
        point('pointermove', step);
        await new Promise(requestAnimationFrame);
    }
    point('pointerup', 0);
    return 1000 * updates / (performance.now() - started);
}"""


def run(output: Path, *, quick: bool = False) -> dict[str, Any]:
    """Measure, print, and write page.json to `output`; the figures. Raises UsageError without Chromium."""
    chromium = shutil.which("chromium")
    if chromium is None:
        raise UsageError("needs Chromium: apt-get install chromium")
    with (
        tempfile.TemporaryDirectory(prefix="fm-") as name,
        servers.fashion_mnist(Path(name) / "server", "embedded", page="on") as server,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        parts = urlsplit(server.url)
        page.goto(f"{parts.scheme}://{parts.netloc}/")
        page.wait_for_selector("#try .sample")
        sample = page.locator("#try .sample img").first.get_attribute("src")
        drops = []
        for _ in range(5 if quick else 30):
            drops.append(page.evaluate(_DROP, sample))
            page.wait_for_load_state("networkidle")
        updates = page.evaluate(_DRAW, [2 if quick else 10, GEOMETRY.height])
        browser.close()
    found = {
        "first_bars_ms": round(statistics.median(drops), 1),
        "first_bars_slowest_ms": round(max(drops), 1),
        "updates_per_s": round(updates, 1),
        "machine": machine(),
        "commit": commit(),
    }
    console = Console()
    console.print(
        f"first bars after a drop: {found['first_bars_ms']} ms, at most {found['first_bars_slowest_ms']} ms "
        f"(aim: {FIRST_BARS_MS:.0f})"
    )
    console.print(f"while drawing: {found['updates_per_s']} answers/s (aim: {UPDATES_PER_S:.0f})")
    output.mkdir(parents=True, exist_ok=True)
    atomic.write_text(output / "page.json", json.dumps(found, indent=2) + "\n")
    return found
