"""Goodput by wrk: answers of 200 a second, over few connections and over ten times as many."""

import json
import re
import shutil
import subprocess
from typing import Final

import numpy as np

from fashion_mnist.encoding import encode_image
from tests.hostile.hunt import Hunt, Skipped

CONNECTIONS: Final = 40
"""Enough that the service is busy."""

_SCRIPT: Final = """
wrk.method = "POST"
local file = assert(io.open("{body}", "rb"))
wrk.body = file:read("*a")
file:close()
local threads = {{}}
function setup(thread) table.insert(threads, thread) end
good = 0
function response(status) if status == 200 then good = good + 1 end end
function done(summary)
  local all = 0
  for _, thread in ipairs(threads) do all = all + thread:get("good") end
  io.write(string.format('RESULT {{"good": %d, "seconds": %f}}\\n', all, summary.duration / 1e6))
end
"""


def goodput(hunt: Hunt, name: str) -> tuple[float, float]:
    """Right answers a second at the peak, and over ten times as many connections."""
    body = hunt.images.contents[0] if name == "raw" else large_png()
    peak = max(_measured(hunt, body, CONNECTIONS) for _ in range(2))
    return peak, _measured(hunt, body, 10 * CONNECTIONS)


def large_png() -> bytes:
    """A PNG of some 190 kB, as a photograph is."""
    forms = np.random.default_rng(0).integers(0, 256, (436, 436), dtype=np.uint8)
    return encode_image(forms)


def _measured(hunt: Hunt, body: bytes, connections: int) -> float:
    wrk = shutil.which("wrk")
    if wrk is None:
        raise Skipped("needs wrk")
    folder = hunt.new_folder()
    (folder / "body").write_bytes(body)
    script = folder / "count.lua"
    script.write_text(_SCRIPT.format(body=folder / "body"))
    command = [wrk, "-t", "1", "-c", str(connections), "-d", f"{max(2, round(hunt.seconds))}s", "--timeout", "10s"]
    done = subprocess.run(
        [*command, "-s", script, hunt.server.url], capture_output=True, text=True, timeout=120, check=True
    )
    result = re.search(r"^RESULT (.*)$", done.stdout, flags=re.MULTILINE)
    assert result, done.stdout + done.stderr
    figures = json.loads(result[1])
    return float(figures["good"] / figures["seconds"])
