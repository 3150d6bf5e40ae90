"""The bare reference: one plain ``socket.send`` per subscriber, and nothing else.

A server without a framework: epoll, a WebSocket handshake by hand, and an HTTP ``POST`` that makes one
frame and sends it to every subscriber in a loop. It knows no tokens, channels, limits or queues, so its
CPU per delivery is what the kernel asks for a small message; ``python -m mechamap_rt.bench`` compares
real servers with it. Environment: ``HOST``, ``PORT``.

``GET /api/health`` answers ``{"status", "sends", "unsent", "sendNs"}``: how many frames were sent, how many
the kernel would not take, and the CPU nanoseconds of the send loop alone.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import re
import select
import socket
import struct
import sys
import time

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY = re.compile(rb"(?i)\r\nsec-websocket-key:\s*([^\r\n]+)")
_LENGTH = re.compile(rb"(?i)\r\ncontent-length:\s*(\d+)")
_MAX_REQUEST = 1 << 20


def text_frame(payload: bytes) -> bytes:
    """One unmasked final WebSocket text frame (RFC 6455 section 5.2) of at most 65,535 bytes."""
    size = len(payload)
    header = struct.pack("!BB", 0x81, size) if size < 126 else struct.pack("!BBH", 0x81, 126, size)
    return header + payload


def event_payload(body: bytes) -> bytes:
    """A Socket.IO event around the ``data`` member, the last one, of a publication's body."""
    start = body.index(b'"data":') + 7
    return b'42["bench.message",' + body[start : body.rindex(b"}")] + b"]"


class SendLoop:
    """The server.

    :param listener: a bound, listening, non-blocking socket.
    """

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._epoll = select.epoll()
        self._epoll.register(listener.fileno(), select.EPOLLIN)
        self._peers: dict[int, socket.socket] = {}
        self._requests: dict[int, bytearray] = {}
        self._subscribers: dict[int, socket.socket] = {}
        self.sends = self.unsent = self.send_ns = 0

    def serve(self) -> None:
        """Run until the process is ended."""
        listening = self._listener.fileno()
        while True:
            for fileno, _ in self._epoll.poll():
                if fileno == listening:
                    self._accept()
                else:
                    self._readable(fileno)

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except BlockingIOError:
                return
            peer.setblocking(False)
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            fileno = peer.fileno()
            self._peers[fileno] = peer
            self._requests[fileno] = bytearray()
            self._epoll.register(fileno, select.EPOLLIN)

    def _readable(self, fileno: int) -> None:
        peer = self._peers.get(fileno)
        if peer is None:
            return
        try:
            data = peer.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close(fileno)
        elif fileno not in self._subscribers:  # what a subscriber says is thrown away
            self._requests[fileno] += data
            self._answer_requests(fileno, peer)

    def _answer_requests(self, fileno: int, peer: socket.socket) -> None:
        buffer = self._requests[fileno]
        while (end := buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(buffer[: end + 2])
            length = int(found[1]) if (found := _LENGTH.search(head)) else 0
            if len(buffer) < end + 4 + length:
                break
            body = bytes(buffer[end + 4 : end + 4 + length])
            del buffer[: end + 4 + length]
            if key := _KEY.search(head):
                self._upgrade(fileno, peer, key[1].strip())
                return
            self._respond(peer, head, body)
        if len(buffer) > _MAX_REQUEST:
            self._close(fileno)

    def _upgrade(self, fileno: int, peer: socket.socket, key: bytes) -> None:
        accept = base64.b64encode(hashlib.sha1(key + _GUID).digest())
        peer.send(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        self._subscribers[fileno] = peer

    def _respond(self, peer: socket.socket, head: bytes, body: bytes) -> None:
        if head.startswith(b"POST "):
            self.publish(text_frame(event_payload(body)))
        answer = b'{"status":"ok","sends":%d,"unsent":%d,"sendNs":%d}' % (
            self.sends,
            self.unsent,
            self.send_ns,
        )
        peer.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer
        )

    def publish(self, frame: bytes) -> None:
        """Send a frame to every subscriber, one ``send`` each."""
        began = time.thread_time_ns()
        size, unsent = len(frame), 0
        for peer in self._subscribers.values():
            try:
                if peer.send(frame) != size:
                    unsent += 1
            except OSError:
                unsent += 1
        self.sends += len(self._subscribers)
        self.unsent += unsent
        self.send_ns += time.thread_time_ns() - began

    def _close(self, fileno: int) -> None:
        self._subscribers.pop(fileno, None)
        self._requests.pop(fileno, None)
        self._epoll.unregister(fileno)
        self._peers.pop(fileno).close()


def main() -> int:
    """Listen on ``HOST``:``PORT`` and serve."""
    host, port = os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "3000"))
    listener = socket.create_server((host, port), backlog=4096)
    listener.setblocking(False)
    with contextlib.suppress(KeyboardInterrupt):
        SendLoop(listener).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
