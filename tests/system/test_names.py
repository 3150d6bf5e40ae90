"""Names whose look-up takes for ever: who waits is told in time, and there is one thread at most for each."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from mechamap_rt.system.names import Host


class NameServer:
    """Stands between a host and ``getaddrinfo``, which cannot be made to be silent and to answer again.

    :ivar asked: how many names it was asked for.
    """

    def __init__(self) -> None:
        self.asked = 0
        self.answers = threading.Event()
        self.answers.set()
        self.failure: OSError | None = None

    def getaddrinfo(self, host: str, port: int, *more: Any, **options: Any) -> Any:
        if options.get("flags"):
            return _getaddrinfo(host, port, *more, **options)
        self.asked += 1
        assert self.answers.wait(30)
        if self.failure is not None:
            raise self.failure
        return _getaddrinfo("127.0.0.7", port, *more, **options)


_getaddrinfo = socket.getaddrinfo


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    one = NameServer()
    monkeypatch.setattr(socket, "getaddrinfo", one.getaddrinfo)
    try:
        yield one
    finally:
        one.answers.set()


def test_addresses_need_no_name_server(names: NameServer) -> None:
    assert Host("127.0.0.1", 3306).addresses(1) == [("127.0.0.1", 3306)]
    assert Host("::1", 3306).addresses(1) == [("::1", 3306)]
    assert names.asked == 0


def test_a_silent_one_is_waited_for_so_long_by_one_thread(names: NameServer) -> None:
    host = Host("db.mechamap.test", 3306)
    names.answers.clear()
    for _ in range(5):
        began = time.monotonic()
        with pytest.raises(TimeoutError, match="name server"):
            host.addresses(0.1)
        assert time.monotonic() - began < 2
    assert names.asked == 1
    names.answers.set()
    assert host.addresses(5) == [("127.0.0.7", 3306)]


def test_while_it_is_silent_the_host_is_where_it_was(names: NameServer) -> None:
    host = Host("db.mechamap.test", 3306)
    found = host.addresses(5)
    names.answers.clear()
    assert host.addresses(0.1) == found
    names.failure = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    names.answers.set()
    assert host.addresses(5) == found
    names.failure = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    with pytest.raises(socket.gaierror, match="not known"):
        host.addresses(5)


def test_who_waits_is_let_go_at_the_end(names: NameServer) -> None:
    host = Host("db.mechamap.test", 3306)
    names.answers.clear()
    threading.Timer(0.2, host.close).start()
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        host.addresses(20)
    assert time.monotonic() - began < 5
