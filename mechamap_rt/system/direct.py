"""Writing straight to a socket, past the transport's buffer, as long as nothing waits there.

Twisted's transports write in the reactor's next turn: they ask to be told when the socket is writable, which it nearly
always is. That is three more system calls and a turn for each small message.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import tcp


def direct(transport: Any) -> Callable[[bytes], int] | None:
    """What takes bytes as ``socket.send`` does, past the transport's buffer.

    TCP and unix sockets with nothing buffered have the socket's own; a transport of TLS has one of its own
    (``SecureTransport.send_now``), which looks by itself whether anything waits. Others have none.
    """
    if (
        isinstance(transport, tcp.Connection)
        and transport.connected
        and not (transport.TLS or transport.dataBuffer or transport._tempDataBuffer)
        and not getattr(transport, "_sendmsgQueue", None)
    ):
        send: Callable[[bytes], int] = transport.socket.send
        return send
    secured: Callable[[bytes], int] | None = getattr(transport, "send_now", None)
    return secured


def write(transport: Any, data: bytes) -> None:
    """Write all of it, directly as far as the kernel takes it now."""
    send = direct(transport)
    if send is not None:
        try:
            sent = send(data)
        except OSError:
            # full, or broken: the transport finds out which
            sent = 0
        if sent == len(data):
            return
        data = data[sent:]
    transport.write(data)
