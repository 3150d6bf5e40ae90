"""A terminal between the master, where SSH ends, and the process in which its shell runs, over a socket pair.

A frame is its length (4 bytes, of what follows), its kind (1 byte), and a body.
"""

from __future__ import annotations

from struct import Struct
from typing import Any, Final

import msgspec
from twisted.protocols.basic import Int32StringReceiver

#: Bytes of a frame, and of the data in one that is sent.
MAX_FRAME: Final = 1024 * 1024
PIECE: Final = 32 * 1024

#: From the master: the :class:`Opening` (JSON), the terminal's new size, and that nothing more will be typed.
OPEN: Final = 0
SIZE: Final = 1
EOF: Final = 2
#: Both ways: what is typed and what is shown. From the shell: it is over, and with which status.
DATA: Final = 3
END: Final = 4

#: Columns and rows.
_SIZE: Final = Struct(">HH")


class Opening(msgspec.Struct, frozen=True):
    """What somebody who has come by SSH wants.

    :ivar who: the key's fingerprint.
    :ivar size: columns and rows of the terminal; ``None`` without one.
    :ivar command: to be run instead of what is typed.
    """

    who: str
    size: tuple[int, int] | None = None
    command: str | None = None


class Frames(Int32StringReceiver):
    """One end of the stream."""

    MAX_LENGTH = MAX_FRAME

    def send(self, kind: int, body: bytes = b"") -> None:
        """Send a frame; data of any length goes in several."""
        transport: Any = self.transport
        if transport is None:
            return
        for start in range(0, max(len(body), 1), PIECE) if kind == DATA else (0,):
            self.sendString(bytes((kind,)) + (body[start : start + PIECE] if kind == DATA else body))

    def stringReceived(self, string: bytes) -> None:
        self.took(string[0] if string else -1, string[1:])

    def took(self, kind: int, body: bytes) -> None:
        """A frame has come; its kind may be any."""
        raise NotImplementedError


def packed(columns: int, rows: int) -> bytes:
    """A terminal's size; what it cannot be, as it is said to be where nobody knows, is 80 and 24."""
    return _SIZE.pack(*fitting(columns, rows))


def unpacked(body: bytes) -> tuple[int, int]:
    """Columns and rows; as :func:`packed` was given them."""
    columns, rows = _SIZE.unpack(body)
    return columns, rows


def fitting(columns: int, rows: int) -> tuple[int, int]:
    """A size with which a line can be drawn."""
    return columns if 0 < columns < 0x10000 else 80, rows if 0 < rows < 0x10000 else 24
