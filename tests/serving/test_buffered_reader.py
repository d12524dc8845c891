"""The buffered reader: the same bytes as TorchServe's own, in fewer system calls."""

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ts.protocol import otf_message_handler

from handlers import buffered_reader


class Wire:
    """A connection that hands over a stream in pieces of given sizes."""

    def __init__(self, stream: bytes, pieces: list[int]) -> None:
        self.stream = stream
        self.pieces = pieces
        self.calls = 0

    def recv(self, size: int) -> bytes:
        self.calls += 1
        piece = self.pieces[self.calls % len(self.pieces)]
        taken, self.stream = self.stream[: min(size, piece)], self.stream[min(size, piece) :]
        return taken

    def recv_into(self, buffer: memoryview) -> int:
        taken = self.recv(len(buffer))
        buffer[: len(taken)] = taken
        return len(taken)


@given(
    lengths=st.lists(st.integers(0, 300) | st.integers(250_000, 600_000), max_size=12),
    pieces=st.lists(st.integers(1, 1_000_000), min_size=1, max_size=5),
)
def test_it_hands_out_the_stream_in_order(lengths: list[int], pieces: list[int]) -> None:
    # A short prime period: a byte out of place is seen.
    stream = (bytes(range(251)) * (sum(lengths) // 251 + 1))[: sum(lengths)]
    if min(pieces) < 100 and sum(lengths) > 10_000:
        pieces = [piece + 10_000 for piece in pieces]
    wire, read = Wire(stream, pieces), buffered_reader.buffered_reader()
    position = 0
    for length in lengths:
        data = read(wire, length)
        assert isinstance(data, bytearray)
        assert data == stream[position : position + length]
        position += length


def test_many_fields_take_one_call() -> None:
    wire, read = Wire(bytes(10_000), [1_000_000]), buffered_reader.buffered_reader()
    for _ in range(1000):
        read(wire, 10)
    assert wire.calls == 1


def test_bytes_of_one_connection_never_reach_another() -> None:
    read = buffered_reader.buffered_reader()
    assert read(Wire(b"first, and more", [100]), 5) == b"first"
    assert read(Wire(b"other", [100]), 5) == b"other"


def test_the_worker_ends_with_its_connection() -> None:
    read = buffered_reader.buffered_reader()
    with pytest.raises(SystemExit):
        read(Wire(b"cut", [100]), 4)


def test_the_function_that_is_replaced_has_the_shape_that_is_expected() -> None:
    """Fails where TorchServe's function is another than the one that was read and replaced."""
    function = getattr(otf_message_handler._retrieve_buffer, "original", otf_message_handler._retrieve_buffer)
    source = inspect.getsource(function)
    assert list(inspect.signature(function).parameters) == ["conn", "length"]
    assert "conn.recv(length)" in source
    assert "sys.exit(0)" in source
    assert "_retrieve_buffer(conn, 1)" in inspect.getsource(otf_message_handler.retrieve_msg)


def test_another_shape_is_left_alone(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def reworked(connection: object, size: int, flags: int) -> bytearray:
        raise NotImplementedError

    monkeypatch.setattr(otf_message_handler, "_retrieve_buffer", reworked)
    buffered_reader.apply()
    assert otf_message_handler._retrieve_buffer is reworked
    assert "not 0.12.0" in caplog.text
