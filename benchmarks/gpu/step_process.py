"""The process of one step.

    python -m benchmarks.gpu.step_process TARGET DEVICE RESULT

calls TARGET, as `module:function`, and writes to the file RESULT what came of it.
"""

import importlib
import json
import sys
import traceback
from pathlib import Path
from typing import Any

from benchmarks.gpu.steps import FAILED, PASSED, SAID_CHARACTERS, SKIPPED, Run, Skipped
from fashion_mnist.system import atomic


def main() -> None:
    """Run one step, here."""
    target, device, result = sys.argv[1:]
    module, _, function = target.partition(":")
    outcome: dict[str, Any]
    try:
        found = getattr(importlib.import_module(module), function)(Run(device))
        outcome = {"result": PASSED, "found": found}
    except Skipped as skipped:
        outcome = {"result": SKIPPED, "reason": str(skipped)}
    except Exception:
        # Whatever it is: it is what there is to know of the step.
        outcome = {"result": FAILED, "reason": traceback.format_exc()[-SAID_CHARACTERS:]}
    atomic.write_text(Path(result), json.dumps(outcome))


if __name__ == "__main__":
    main()
