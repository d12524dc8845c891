"""Garbage collections are counted once each, also where the log is replaced while nobody reads it."""

from pathlib import Path

import pytest

from serving.gc_log import GcLog

YOUNG = "[12.1s] GC(1) Pause Young (Allocation Failure) 211M->7M(486M) 2.500ms\n"
FULL = "[1.1s] GC(0) Pause Full (Metadata GC Threshold) 69M->6M(512M) 40.000ms\n"


def test_counts_each_collection_once(tmp_path: Path) -> None:
    log = GcLog(tmp_path / "gc.log")
    log.read()
    assert (log.pauses, log.heap_bytes) == (0, None)
    log.path.write_text("[0.005s] Using Serial\n" + FULL + YOUNG[:30])
    log.read()
    assert (log.pauses, log.heap_bytes, log.capacity_bytes) == (1, 6 << 20, 512 << 20)
    with log.path.open("a") as file:
        file.write(YOUNG[30:])
    log.read()
    log.read()
    assert (log.pauses, log.heap_bytes, log.capacity_bytes) == (2, 7 << 20, 486 << 20)
    assert log.seconds == pytest.approx(0.0425)


def test_goes_on_when_the_log_is_renamed(tmp_path: Path) -> None:
    log = GcLog(tmp_path / "gc.log")
    log.path.write_text(FULL)
    log.read()
    with log.path.open("a") as file:
        file.write(YOUNG)
    log.path.rename(tmp_path / "gc.log.0")
    log.path.write_text(FULL + YOUNG)
    log.read()
    assert log.pauses == 4
