"""Reads dashboards, given by their files, into Grafana's own types, and says what those do not know or would not take.

Grafana generates the types from the schemas that it checks dashboards with. A key that they do not know is lost when
what was read is written again.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard


def lost(sent: Any, kept: Any, path: str) -> Iterator[str]:
    """Where what was sent is not among what was kept."""
    if isinstance(sent, dict) and isinstance(kept, dict):
        for name, value in sent.items():
            if name in kept:
                yield from lost(value, kept[name], f"{path}.{name}")
            elif value not in (None, False, "", [], {}):  # what is empty need not be written
                yield f"{path}.{name} is unknown"
    elif isinstance(sent, list) and isinstance(kept, list) and len(sent) == len(kept):
        for place, pair in enumerate(zip(sent, kept, strict=True)):
            yield from lost(*pair, f"{path}[{place}]")
    elif sent != kept:
        yield f"{path} is {sent!r} and would be {kept!r}"


def main() -> int:
    """The number of faults, which are printed."""
    register_default_plugins()
    faults = []
    for name in sys.argv[1:]:
        sent = json.loads(Path(name).read_text())
        kept = json.loads(JSONEncoder().encode(Dashboard.from_json(sent)))
        faults += lost(sent, kept, Path(name).name)
    print(*faults, sep="\n")
    return len(faults)


if __name__ == "__main__":
    sys.exit(min(main(), 100))
