"""Steps for the tests of `benchmarks.gpu.steps`: what a step may do, and worse."""

import os
import signal
import time

from benchmarks.gpu.steps import Found, Run, Skipped


def works(run: Run) -> Found:
    """As steps should."""
    return {"device": run.device, "sizes": [{"size": run.size("real", "dry"), "images/s": 7}]}


def raises(run: Run) -> Found:
    """An error of any kind."""
    raise ZeroDivisionError("no images")


def is_killed(run: Run) -> Found:
    """As by a driver's fault: no result is left."""
    print("last words", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def hangs(run: Run) -> Found:
    """Longer than any deadline."""
    time.sleep(600)
    return {}


def lacks(run: Run) -> Found:
    """Something that is not there."""
    raise Skipped("there is no TensorRT")
