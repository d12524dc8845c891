"""Frames of HTTP/2 that were once a call of gRPC."""

import contextlib
import random

from tests.hostile.hunt import Hunt
from tests.support.grpc_frames import PREFACE, SETTINGS, Frame, answers, call, infer
from tests.support.http import connected

KINDS = 12
"""Kinds of frames: those of RFC 9113, and two that do not exist."""


def mutated(chance: random.Random) -> bytes:
    """Frames with up to four of them altered, doubled, removed or in another order, and at times some bytes, too."""
    frames = [Frame(SETTINGS, 0, 0, b""), *call(1, infer()), *call(3, infer(chance.choice([1, 40])))]
    for _ in range(chance.randint(1, 4)):
        if not frames:
            break
        place = chance.randrange(len(frames))
        frame = frames[place]
        match chance.randrange(8):
            case 0:
                frames[place] = frame._replace(kind=chance.randrange(KINDS))
            case 1:
                frames[place] = frame._replace(flags=chance.randrange(256))
            case 2:
                frames[place] = frame._replace(stream=chance.choice([0, 1, 2, 3, 5, 2**31 - 1]))
            case 3:
                frames[place] = frame._replace(payload=frame.payload[: chance.randint(0, len(frame.payload))])
            case 4:
                frames[place] = frame._replace(payload=chance.randbytes(chance.choice([0, 4, 5, 8, 9, 16384])))
            case 5:
                frames.insert(place, frame)
            case 6:
                del frames[place]
            case _:
                chance.shuffle(frames)
    data = bytearray(PREFACE + b"".join(frame.to_bytes() for frame in frames))
    if not chance.randrange(3):
        for _ in range(chance.randint(1, 8)):
            data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data)


def scenario(hunt: Hunt) -> None:
    """Send them, each on its own connection, and ask rightly now and then."""
    chance, port = hunt.random("frames"), hunt.server.state().grpc_port
    count = max(100, hunt.requests // 50)
    with hunt.beside(hunt.server):
        for place in range(count):
            with connected(f"http://127.0.0.1:{port}") as connection, contextlib.suppress(OSError):
                connection.settimeout(0.02)
                connection.sendall(mutated(chance))
                while connection.recv(65536):
                    pass
            if place % 100 == 0:
                assert answers(port), f"no answer to a call after {place} mutated ones"
        assert answers(port)
    hunt.figures["connections"] = count
