"""The listening sockets.

The supervisor holds them open, so that clients that connect while a gateway restarts wait for it and are not refused.
"""

import contextlib
import ctypes
import resource
import socket
import struct
from typing import Final

BACKLOG: Final = 4096
"""Connections that may wait to be accepted; the kernel's own limit, net.core.somaxconn, is often lower."""


def allow_connections() -> None:
    """Raise the limit of open files, one per connection, to what is allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, hard), hard))


def listen(host: str, port: int, count: int) -> list[socket.socket]:
    """`count` sockets at one address, one for each gateway; the kernel spreads connections over them.

    With `port` 0 they share a free one. Raises OSError.
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
    """Hold a port for gRPC servers in other processes of this user, which listen on it with SO_REUSEPORT.

    grpcio opens its sockets itself, and without this a second `serve` would share the port with the first. The socket
    does not listen, so it gets no connections. `port` 0 takes a free one. Raises OSError if the port is taken.
    """
    held = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        # The kernel checks whether a port may be shared when the second socket is bound. Bind without sharing, except
        # with lingering connections of an earlier server; then allow sharing.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((host, port))
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError:
        held.close()
        raise
    return held


def drop_new_connections(listening: socket.socket) -> None:
    """Stop new connections; those that are established but not yet accepted can still be accepted.

    Closing the socket would reset these. Instead the kernel drops the first packet of each new connection from now on;
    the client sends it again a second later, to a closed port.
    """
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *instruction) for instruction in _DROP_SYN))
    try:
        listening.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(_DROP_SYN), ctypes.addressof(program))
        )
    except PermissionError:
        # Some kernels accept a filter only from privileged processes. Otherwise shrink the backlog to one connection,
        # beyond which the kernel drops the first packet, too.
        listening.listen(0)


def accept_new_connections(listening: socket.socket) -> None:
    """Undo `drop_new_connections`."""
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
