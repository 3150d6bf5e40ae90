"""Server-side WebSocket framing (RFC 6455 section 5.2): unmasked, unfragmented, uncompressed.

A published message is framed once and the bytes shared by every subscriber, which is why the framing is here and not
left to Autobahn's per-connection ``sendMessage``.
"""

from __future__ import annotations


def text_message(payload: bytes) -> bytes:
    """One text message as one frame."""
    size = len(payload)
    if size < 126:
        return b"\x81" + size.to_bytes(1, "big") + payload
    if size < 65536:
        return b"\x81\x7e" + size.to_bytes(2, "big") + payload
    return b"\x81\x7f" + size.to_bytes(8, "big") + payload
