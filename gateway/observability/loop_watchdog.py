"""What keeps the event loop to itself: each callback's own processor time, which a busy machine does not lengthen.

`python -m tests.hostile` turns it on. It needs asyncio's own loop, whose callbacks are Python's, and costs speed.
"""

import asyncio
import gc
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

LIMIT_S: Final = 0.005
"""No callback may take longer, but for the batch that an engine computes on the loop. Garbage collections, which come
in any of them, are told apart."""

MESSAGE: Final = "a callback kept the event loop to itself"

log = logging.getLogger(__name__)


@contextmanager
def watching() -> Iterator[None]:
    """Log a warning for each callback of this thread that takes longer, until the block ends."""
    run = asyncio.Handle._run
    collected = [0.0, 0.0]  # seconds of garbage collection, and when the one that runs began

    def note_collection(phase: str, _: object) -> None:
        now = time.thread_time()
        if phase == "start":
            collected[1] = now
        else:
            collected[0] += now - collected[1]

    def timed(handle: asyncio.Handle) -> None:
        before, collected[0] = time.thread_time(), 0.0
        run(handle)
        spent = time.thread_time() - before
        if spent - collected[0] > LIMIT_S:
            log.warning(
                MESSAGE,
                extra={
                    "milliseconds": round(1e3 * spent, 1),
                    "callback": _name(handle),
                    "collection_ms": round(1e3 * collected[0], 1),
                },
            )

    gc.callbacks.append(note_collection)
    asyncio.Handle._run = timed  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        gc.callbacks.remove(note_collection)
        asyncio.Handle._run = run  # type: ignore[method-assign]


def _name(handle: asyncio.Handle) -> str:
    """What ran: a function, or the coroutine of a task."""
    callback = handle._callback  # type: ignore[attr-defined]
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, asyncio.Task):
        return str(getattr(owner.get_coro(), "__qualname__", owner))
    protocol = getattr(owner, "_protocol", None)
    name = getattr(callback, "__qualname__", repr(callback))
    return f"{name} of {type(protocol).__name__}" if protocol is not None else str(name)
