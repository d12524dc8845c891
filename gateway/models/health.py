"""Whether the engine answers: a real image gets its right label, asked over and over."""

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
"""Pauses between two canaries: while all is well, and while the engine is away and everybody waits for it."""

DEADLINE_S: Final = 2.0


class Health:
    """What `/health/...` says of one version of the model."""

    def __init__(self, engine: Backend, canary: Pixels, version: str, task: Task = FASHION_MNIST) -> None:
        """`canary` is the task's health-check image, uint8 [1, c, h, w]; `version` is for the log."""
        self._task = task
        self._engine = engine
        self._version = version
        self._canary = canary
        self._lost = asyncio.Event()
        self.started = asyncio.Event()
        """Set when the engine answers rightly for the first time."""
        self.answers = False
        """Whether it does now."""
        self.draining = False
        """Whether this process is about to end."""
        self.on_change: Callable[[bool], None] = lambda ready: None
        """Called with `ready` when that may have changed."""
        self.on_canary: Callable[[bool], None] = lambda right: None
        """Called with whether a canary got its label."""
        self._reason = "the engine has not answered yet"

    @property
    def ready(self) -> bool:
        """Whether to send requests here."""
        return self.answers and not self.draining

    @property
    def reason(self) -> str:
        """Why not."""
        return "draining" if self.draining else self._reason

    def lose(self, error: FashionMNISTError) -> None:
        """The engine failed: nothing is sent to it before it gives a canary its label."""
        if self.answers:
            self.answers = False
            self._reason = error.message
            log.warning("engine lost", extra={"version": self._version, "reason": self._reason})
            self._lost.set()
            self.on_change(self.ready)

    def drain(self) -> None:
        """Ask for no more requests; those that come are answered."""
        self.draining = True
        self.on_change(self.ready)

    async def ask(self) -> None:
        """Ask once; what came of it is in `answers` and `reason`."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                probabilities = await self._engine.predict(self._canary)
        except TimeoutError:
            self._fails(f"the engine did not answer within {DEADLINE_S:g} s")
        except FashionMNISTError as error:
            self._fails(error.message)
        except Exception as error:
            log.exception("the canary failed")
            self._fails(f"the engine failed: {type(error).__name__}")
        else:
            label, due = self._task.classes[int(probabilities[0].argmax())], self._task.health_check.label
            if label == due:
                self._answered()
            else:
                self._fails(f"the engine takes {self._task.health_check.image} for {label!r} instead of {due!r}")

    async def watch(self) -> None:
        """Ask, until cancelled."""
        while True:
            await self.ask()
            self._lost.clear()
            try:
                async with asyncio.timeout(READY_PAUSE_S if self.answers else LOST_PAUSE_S):
                    await self._lost.wait()
            except TimeoutError:
                continue

    def _answered(self) -> None:
        self.on_canary(True)
        if not self.answers:
            log.info("engine answers", extra={"version": self._version})
        self.started.set()
        changed, self.answers = not self.answers, True
        self._reason = ""
        if changed:
            self.on_change(self.ready)

    def _fails(self, reason: str) -> None:
        self.on_canary(False)
        if self.answers:
            log.warning("engine lost", extra={"version": self._version, "reason": reason})
        changed, self.answers = self.answers, False
        self._reason = reason
        if changed:
            self.on_change(self.ready)
