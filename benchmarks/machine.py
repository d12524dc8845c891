"""The machine that figures are of."""

import os
import platform
import subprocess
from pathlib import Path


def machine(device: str = "cpu") -> str:
    """Its processor and its cores, and its GPU where that computes."""
    said = f"{_cpu()}, {os.cpu_count()} cores"
    if device == "cuda":
        command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        found = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
        said += f", {found.splitlines()[0].strip()}"
    return said


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
