"""The log of this process, on stderr: JSON for programs, text for a terminal. It never contains clients' data."""

import contextlib
import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pythonjsonlogger.json import JsonFormatter

from fashion_mnist.system.line_sink import LineSink

_FIELDS: Final = ["levelname", "name", "message"]
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "taskName"}


@contextmanager
def configured(log_format: str) -> Iterator[None]:
    """Write the log to stderr without ever blocking on its reader. `log_format` is `json` or `text`."""
    sink = LineSink(2)
    handler = _Handler(sink)
    renamed = {"levelname": "level", "name": "logger"}
    json = JsonFormatter(_FIELDS, rename_fields=renamed, timestamp=True)
    handler.setFormatter(json if log_format == "json" else _Text("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    # It warns of each form that a client sends wrongly; the client is told.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    with contextlib.redirect_stderr(_Printed()):
        try:
            yield
        finally:
            sink.close()


class _Printed(io.TextIOBase):
    """In the place of sys.stderr, where libraries print what they have not foreseen: it is logged."""

    def write(self, text: str) -> int:
        for line in filter(str.strip, text.splitlines()):
            logging.getLogger("stderr").warning("%s", line)
        return len(text)


class _Handler(logging.Handler):
    def __init__(self, sink: LineSink) -> None:
        super().__init__()
        self._sink = sink

    def emit(self, record: logging.LogRecord) -> None:
        self._sink.print(self.format(record))


class _Text(logging.Formatter):
    """A line for people: the message, followed by the record's extra fields."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - its name in logging
        more = [f"{name}={value}" for name, value in vars(record).items() if name not in _STANDARD | {"asctime"}]
        return " ".join([super().formatMessage(record), *more])
