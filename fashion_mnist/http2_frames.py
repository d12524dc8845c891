"""The numbers of HTTP/2's frames (RFC 9113, 4.1, 6 and 6.5.2): for our server, and for the client that measures it."""

import struct
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client says first."""

HEAD: Final = struct.Struct(">BHBBL")
"""A frame's head: length (8 and 16 bits), kind, flags, stream."""

DATA: Final = 0
HEADERS: Final = 1
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
WITH_PRIORITY: Final = 0x20

TABLE_SIZE: Final = 1
MAX_CONCURRENT_STREAMS: Final = 3
INITIAL_WINDOW: Final = 4
MAX_FRAME: Final = 5
MAX_HEADER_LIST: Final = 6

FIRST_WINDOW: Final = 65_535
LARGEST_WINDOW: Final = 2**31 - 1
FIRST_FRAME: Final = 16_384
"""The longest payload that a peer must take, and until it says otherwise the longest that it takes."""
