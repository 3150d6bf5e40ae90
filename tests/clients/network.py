"""A network that can be cut: a TCP relay that goes silent, as a cable does, without a FIN to either side."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self


class Network:
    """Relays connections to a port of this machine.

    :ivar url: where to connect.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._sockets: list[socket.socket] = []
        #: What the connections of now look at: set when they are cut.
        self._silence = threading.Event()
        self._down = False
        #: Connections relayed so far.
        self.relayed = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """From now on nothing passes, over the connections there are and over new ones."""
        self._down = True
        self._silence.set()

    def mend(self) -> None:
        """New connections pass again; the old ones stay silent for ever."""
        self._silence = threading.Event()
        self._down = False

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._sockets.append(near)
                if self._down:
                    continue
                far = socket.create_connection(("127.0.0.1", self._target))
                self._sockets.append(far)
                self.relayed += 1
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=_relay, args=(source, sink, self._silence), daemon=True).start()

    def close(self) -> None:
        self._listener.close()
        for one in self._sockets:
            one.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _relay(source: socket.socket, sink: socket.socket, silence: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            if silence.is_set():
                return
            sink.sendall(data)
        if not silence.is_set():
            sink.shutdown(socket.SHUT_WR)
