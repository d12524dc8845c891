"""TorchServe's custom handler: a thin adapter from its contract to the core.

TorchServe imports this file from the archive, makes one object of its only class, calls `initialize` once and then
`handle` with each batch. https://docs.pytorch.org/serve/custom_service.html
"""

import logging
import time
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np

from fashion_mnist.decoding.limits import Limits
from fashion_mnist.engines import open_engine
from fashion_mnist.errors import Unavailable
from fashion_mnist.handler_interface.shared_pixels import Reader
from fashion_mnist.model_store import model_task, model_version, unknown_threshold
from fashion_mnist.predictions import Probabilities
from fashion_mnist.preparation import parse_mode
from fashion_mnist.settings import Settings
from handlers import worker
from handlers.torchserve_request import Request

log = logging.getLogger(__name__)


class FashionMNISTHandler:
    """Decodes each request of a batch by itself, runs all their images at once, answers each by itself."""

    def initialize(self, context: Any) -> None:
        """Load and warm up the engine that the archive's YAML config names.

        `context` is TorchServe's `ts.context.Context`. Whatever is raised here keeps the worker from starting.
        """
        worker.prepare()
        settings = Settings.from_mapping(context.model_yaml_config.get("handler", {}))
        model_dir = Path(context.system_properties["model_dir"])
        self._limits = Limits.from_settings(settings)
        self._prepare = parse_mode(settings.prepare)
        self._model_version = model_version(model_dir)
        self._unknown_threshold = unknown_threshold(model_dir)
        self._task = model_task(model_dir)
        self._shared = Reader(self._task.geometry)
        self._counters = worker.Counters(context.metrics)
        self._traces = worker.open_traces(settings, self._model_version)
        self._engine = open_engine(
            model_dir,
            settings.runtime,
            settings.device,
            threads=settings.threads,
            gpu_id=context.system_properties.get("gpu_id"),
            max_gpu_batch=settings.max_gpu_batch,
            cuda_graphs=settings.cuda_graphs == "on",
        )
        log.warning("engine %s computes on %s", self._engine.name, self._engine.provider)

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        """Answer a batch: a body for each request, in order; its status and content type are set through `context`."""
        started_ns = time.time_ns()
        requests = [Request(item, context.get_all_request_header(index), self._task) for index, item in enumerate(data)]
        for request in requests:
            request.decode(self._limits, self._prepare, self._shared)
        probabilities = self._predict(requests)
        bodies, start = [], 0
        for index, request in enumerate(requests):
            end = start + len(request.decoded.pixels)
            answer = request.answer(probabilities[start:end], self._model_version, self._unknown_threshold)
            start = end
            context.set_response_content_type(index, answer.content_type)
            if answer.status != HTTPStatus.OK:
                # A phrase of ours: a client's own text in the status line could carry a line break into the head.
                context.set_response_status(answer.status, HTTPStatus(answer.status).phrase, index)
            bodies.append(answer.body)
        self._counters.add(requests)
        if self._traces is not None:
            self._traces.add(requests, started_ns)
        return bodies

    def _predict(self, requests: list[Request]) -> Probabilities:
        pixels = [request.decoded.pixels for request in requests if len(request.decoded.pixels)]
        try:
            if pixels:
                return self._engine.predict(pixels[0] if len(pixels) == 1 else np.concatenate(pixels))
        except Exception:
            # Whatever an engine may raise. TorchServe would answer with a text of its own, and those at fault with it.
            log.exception("the engine failed")
            for request in requests:
                if len(request.decoded.pixels):
                    request.fail(Unavailable("the engine failed to compute: try again, and see the server's log"))
        return np.empty((0, len(self._task.classes)), np.float32)
