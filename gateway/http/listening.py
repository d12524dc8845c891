"""The sockets that clients connect to.

The supervisor holds them: whoever connects while a gateway is being restarted waits for the next, and is not refused.
"""

import contextlib
import ctypes
import resource
import socket
import struct
from typing import Final

BACKLOG: Final = 4096
"""Connections that may wait to be accepted; the kernel's own limit, net.core.somaxconn, is often the smaller one."""


def allow_connections() -> None:
    """Each connection is an open file: take as many as we are allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, hard), hard))


def listen(host: str, port: int, count: int) -> list[socket.socket]:
    """So many sockets at one address, one for each gateway; the kernel spreads connections over them.

    `port` 0 takes a free one, the same for all. Raises OSError.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sockets: list[socket.socket] = []
    try:
        for _ in range(count):
            listening = socket.socket(family)
            sockets.append(listening)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if count > 1:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listening.bind((host, port))
            port = listening.getsockname()[1]
            listening.listen(BACKLOG)
    except OSError:
        for listening in sockets:
            listening.close()
        raise
    return sockets


def reserve(host: str, port: int) -> socket.socket:
    """Hold a port for gRPC servers in other processes of this user, which listen there with SO_REUSEPORT.

    grpcio opens its sockets itself, and without this a second `serve` would share the port with the first. The socket
    does not listen, so it gets no connections. `port` 0 takes a free one. Raises OSError where the port is taken.
    """
    held = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        # Whether a port may be shared is decided by the options that sockets have when the second one is bound. We bind
        # as somebody who does not share, save with connections of an earlier server that linger.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((host, port))
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError:
        held.close()
        raise
    return held


def admit_no_more(listening: socket.socket) -> None:
    """Let nobody else connect; who is connected and not yet accepted can still be.

    Closing the socket would cut those off, who believe to be served. So the kernel drops the first packet of each new
    connection from now on; it comes again a second later, to a closed port.
    """
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *instruction) for instruction in _DROP_SYN))
    try:
        listening.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(_DROP_SYN), ctypes.addressof(program))
        )
    except PermissionError:
        # Some kernels take a filter from the privileged alone, which a container is not. The next best: room for a
        # single connection, beyond which the kernel drops the first packet too.
        listening.listen(0)


def admit(listening: socket.socket) -> None:
    """Undo `admit_no_more`, if it was done."""
    with contextlib.suppress(OSError):
        listening.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
    listening.listen(BACKLOG)


_SO_ATTACH_FILTER: Final = 26
_SO_DETACH_FILTER: Final = 27
# Classic BPF over the TCP header (linux/bpf_common.h): drop what has the SYN flag, let everything else pass.
_DROP_SYN: Final = (
    (0x30, 0, 0, 13),  # load the byte of flags
    (0x45, 0, 1, 0x02),  # if SYN is set go on, else skip one
    (0x06, 0, 0, 0),  # drop
    (0x06, 0, 0, 0xFFFFFFFF),  # pass
)
