"""Logs for programs: a line of JSON for each event, on stderr. Never what a client sent."""

import logging
import sys
from typing import Final

from pythonjsonlogger.json import JsonFormatter

_FIELDS: Final = ["levelname", "name", "message"]


def configure() -> None:
    """Send this process's log there."""
    handler = logging.StreamHandler(sys.stderr)
    renamed = {"levelname": "level", "name": "logger"}
    handler.setFormatter(JsonFormatter(_FIELDS, rename_fields=renamed, timestamp=True))
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
