"""Server-side WebSocket framing (RFC 6455 section 5.2): unmasked and unfragmented.

A published message is framed once and the bytes shared by every subscriber, which is why the framing is here and not
left to Autobahn's per-connection ``sendMessage``.
"""

from __future__ import annotations

import zlib
from typing import Final

#: Base-2 logarithm of the window that shared messages are compressed with. A small one costs the receiver little.
WINDOW_BITS: Final = 11
_TAIL: Final = b"\x00\x00\xff\xff"


def text_message(payload: bytes) -> bytes:
    """One text message as one frame."""
    return _frame(b"\x81", payload)


def binary_message(payload: bytes) -> bytes:
    """One binary message as one frame."""
    return _frame(b"\x82", payload)


def deflated_message(payload: bytes) -> bytes:
    """One text message as one frame, compressed without context (RFC 7692, ``server_no_context_takeover``)."""
    deflate = zlib.compressobj(zlib.Z_BEST_SPEED, zlib.DEFLATED, -WINDOW_BITS, 5)
    compressed = deflate.compress(payload) + deflate.flush(zlib.Z_SYNC_FLUSH)
    return _frame(b"\xc1", compressed.removesuffix(_TAIL))


def _frame(head: bytes, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return head + size.to_bytes(1, "big") + payload
    if size < 65536:
        return head + b"\x7e" + size.to_bytes(2, "big") + payload
    return head + b"\x7f" + size.to_bytes(8, "big") + payload
