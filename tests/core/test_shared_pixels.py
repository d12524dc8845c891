"""Pixels that another process reads where they lie, and what it refuses to read."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fashion_mnist.errors import BadParameter
from fashion_mnist.handler_interface.shared_pixels import MAX_MAPPED, Reader, Writer


def images(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Random pixels."""
    return np.random.default_rng(seed).integers(0, 256, (count, 1, 28, 28), np.uint8)


def test_another_process_reads_what_was_written() -> None:
    writer, sent = Writer(4), images(3)
    message = writer.write(sent)
    program = "import sys; from fashion_mnist.handler_interface.shared_pixels import Reader; "
    program += "sys.stdout.buffer.write(Reader().read(sys.argv[1].encode()).tobytes())"
    command = [sys.executable, "-c", program, message.decode()]
    done = subprocess.run(command, capture_output=True, timeout=60, check=True, cwd=Path(__file__).parents[2])
    assert done.stdout == sent.tobytes()


def test_the_next_batch_is_read_from_the_same_memory_and_nothing_behind_it() -> None:
    writer, reader = Writer(4), Reader()
    for count in (4, 1, 3):
        sent = images(count, count)
        np.testing.assert_array_equal(reader.read(writer.write(sent)), sent)


def test_what_is_read_cannot_be_changed() -> None:
    writer = Writer(1)
    with pytest.raises(ValueError, match="read-only"):
        Reader().read(writer.write(images(1)))[:] = 0


def test_a_reader_keeps_no_more_memories_than_it_should() -> None:
    reader = Reader()
    writers = [Writer(1) for _ in range(MAX_MAPPED + 3)]
    for writer in writers:
        reader.read(writer.write(images(1)))
    assert len(reader._mapped) == MAX_MAPPED
    # The first is mapped anew.
    np.testing.assert_array_equal(reader.read(writers[0].write(images(1, 7))), images(1, 7))


def _others_token(message: bytes) -> bytes:
    pid, fd, _, count = message.split()
    return b" ".join([pid, fd, b"0" * 32, count])


def _too_many(message: bytes) -> bytes:
    return message.rpartition(b" ")[0] + b" 5"


def _a_file(message: bytes) -> bytes:
    _, _, token, count = message.split()
    fd = os.open(__file__, os.O_RDONLY)
    return b" ".join([str(os.getpid()).encode(), str(fd).encode(), token, count])


def _unsealed(message: bytes) -> bytes:
    _, _, token, count = message.split()
    fd = os.memfd_create("unsealed")
    os.write(fd, bytes(784) + bytes.fromhex(token.decode()))
    return b" ".join([str(os.getpid()).encode(), str(fd).encode(), token, count])


def _nobodys(message: bytes) -> bytes:
    return b"4194305 3 " + b" ".join(message.split()[2:])


@pytest.mark.parametrize(
    "altered", [_others_token, _too_many, _a_file, _unsealed, _nobodys, lambda message: b"", lambda message: b"1 2 x 3"]
)
def test_what_no_writer_said_is_refused(altered: Callable[[bytes], bytes]) -> None:
    writer = Writer(4)
    with pytest.raises(BadParameter):
        Reader().read(altered(writer.write(images(1))))


def test_memory_that_is_gone_is_refused_and_what_was_mapped_stays() -> None:
    writer, reader = Writer(2), Reader()
    message = writer.write(images(2))
    before = reader.read(message)
    writer.close()
    np.testing.assert_array_equal(before, images(2))
    with pytest.raises(BadParameter):
        Reader().read(message)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_another_user_reads_nothing() -> None:
    writer = Writer(1)
    program = "import os, sys; from fashion_mnist.errors import BadParameter; "
    program += "from fashion_mnist.handler_interface.shared_pixels import Reader\n"
    program += "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
    program += "try:\n  Reader().read(sys.argv[1].encode())\nexcept BadParameter:\n  print('refused')"
    command = [sys.executable, "-c", program, writer.write(images(1)).decode()]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, cwd=Path(__file__).parents[2]
    )
    assert (done.stdout, done.stderr) == ("refused\n", "")
