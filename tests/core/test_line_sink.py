"""Lines reach their reader, and a reader that stalls, fails or is gone stops nobody."""

import os
import subprocess
import sys
import threading

import pytest

from fashion_mnist.system.line_sink import MAX_BUFFERED_BYTES, LineSink, relayed

LINE = b"x" * 1023 + b"\n"


def test_lines_are_written_in_order() -> None:
    reading, writing = os.pipe()
    sink = LineSink(writing)
    for number in range(100):
        sink.print(f"line {number}")
    sink.close()
    assert os.read(reading, 65536).decode().splitlines() == [f"line {number}" for number in range(100)]


def test_a_reader_that_stalls_stops_nobody_and_is_told_what_it_missed() -> None:
    reading, writing = os.pipe()
    sink = LineSink(writing)
    for _ in range(2 * MAX_BUFFERED_BYTES // len(LINE)):
        sink.write(LINE)  # returns, though the pipe is full
    received = b""
    while b"were dropped" not in received:
        received += os.read(reading, 65536)
    (notice,) = (line for line in received.splitlines() if b"were dropped" in line)
    assert received.count(LINE) + int(notice.split()[0]) == 2 * MAX_BUFFERED_BYTES // len(LINE)


@pytest.mark.parametrize("target", ["/dev/full", "a pipe that nobody reads", "a closed descriptor"])
def test_what_cannot_be_written_is_no_error(target: str) -> None:
    if target == "/dev/full":
        fd = os.open(target, os.O_WRONLY)
    else:
        reading, fd = os.pipe()
        os.close(reading)
        if target == "a closed descriptor":
            os.close(fd)
    sink = LineSink(fd)
    for _ in range(10):
        sink.print("nobody reads this")
    sink.close()


def test_output_of_other_processes_passes_through() -> None:
    reading, writing = os.pipe()
    with relayed(LineSink(writing)) as output:
        for word in ("one", "two"):
            subprocess.run([sys.executable, "-c", f"print('{word}')"], stdout=output, check=True, timeout=20)
    assert os.read(reading, 100) == b"one\ntwo\n"


def test_other_processes_never_wait_for_a_reader() -> None:
    _, writing = os.pipe()
    with relayed(LineSink(writing)) as output:
        code = f"import os; [os.write(1, {LINE!r}) for _ in range(4096)]"
        subprocess.run([sys.executable, "-c", code], stdout=output, check=True, timeout=20)


def test_text_that_no_encoding_holds_is_printed() -> None:
    reading, writing = os.pipe()
    sink = LineSink(writing)
    sink.print("caf\udce9")
    sink.close()
    assert os.read(reading, 100) == b"caf\\udce9\n"


def test_many_threads_may_write() -> None:
    reading, writing = os.pipe()
    sink = LineSink(writing)

    def print_words() -> None:
        for _ in range(100):
            sink.print("word")

    threads = [threading.Thread(target=print_words) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sink.close()
    assert os.read(reading, 65536) == b"word\n" * 800
