"""Health checks: the engine must repeatedly predict the right label for a known image."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from fashion_mnist.decoding.picture import Pixels
from fashion_mnist.errors import FashionMNISTError
from fashion_mnist.task import FASHION_MNIST, Task
from gateway.models.engines import Backend

log = logging.getLogger(__name__)

READY_PAUSE_S: Final = 1.0
LOST_PAUSE_S: Final = 0.05
"""Pauses between two checks: while the engine is healthy, and while it is not."""

DEADLINE_S: Final = 2.0


class Health:
    """The health of one version of the model."""

    def __init__(self, engine: Backend, image: Pixels, version: str, task: Task = FASHION_MNIST) -> None:
        """`image` is the task's health-check image, uint8 [1, c, h, w]; `version` is for the log."""
        self._task = task
        self._engine = engine
        self._version = version
        self._image = image
        self._lost = asyncio.Event()
        self.started = asyncio.Event()
        """Set after the first successful check."""
        self.answers = False
        """Whether the last check succeeded."""
        self.draining = False
        """Whether this process is shutting down."""
        self.on_change: Callable[[bool], None] = lambda ready: None
        """Called with `ready` when that may have changed."""
        self.on_check: Callable[[bool], None] = lambda passed: None
        """Called after each check with whether it succeeded."""
        self._reason = "the engine has not answered yet"

    @property
    def ready(self) -> bool:
        """Whether clients should send requests."""
        return self.answers and not self.draining

    @property
    def reason(self) -> str:
        """Why it is not ready."""
        return "draining" if self.draining else self._reason

    def fail(self, error: FashionMNISTError) -> None:
        """Report a failure of the engine: it gets no requests until the next successful check."""
        if self.answers:
            self.answers = False
            self._reason = error.message
            log.warning("engine lost", extra={"version": self._version, "reason": self._reason})
            self._lost.set()
            self.on_change(self.ready)

    def drain(self) -> None:
        """Become not ready; requests that still arrive are answered."""
        self.draining = True
        self.on_change(self.ready)

    async def check(self) -> None:
        """Check once; the result is in `answers` and `reason`."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                probabilities = await self._engine.predict(self._image)
        except TimeoutError:
            self._failed(f"the engine did not answer within {DEADLINE_S:g} s")
        except FashionMNISTError as error:
            self._failed(error.message)
        except Exception as error:
            log.exception("the health check failed")
            self._failed(f"the engine failed: {type(error).__name__}")
        else:
            label, due = self._task.classes[int(probabilities[0].argmax())], self._task.health_check
            if label == due.label:
                self._passed()
            else:
                self._failed(f"the engine predicts {label!r} for {due.image} instead of {due.label!r}")

    async def run_checks(self) -> None:
        """Check repeatedly, until cancelled."""
        while True:
            await self.check()
            self._lost.clear()
            try:
                async with asyncio.timeout(READY_PAUSE_S if self.answers else LOST_PAUSE_S):
                    await self._lost.wait()
            except TimeoutError:
                continue

    def _passed(self) -> None:
        self.on_check(True)
        if not self.answers:
            log.info("engine answers", extra={"version": self._version})
        self.started.set()
        changed, self.answers = not self.answers, True
        self._reason = ""
        if changed:
            self.on_change(self.ready)

    def _failed(self, reason: str) -> None:
        self.on_check(False)
        if self.answers:
            log.warning("engine lost", extra={"version": self._version, "reason": reason})
        changed, self.answers = self.answers, False
        self._reason = reason
        if changed:
            self.on_change(self.ready)
