"""Streams between buses and links of one test: real socket pairs on the real reactor."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from mechamap_rt.bus.link import Link, adopt
from mechamap_rt.bus.relay import RelayBus

reactor: Any = installed


def connect(one: Link, other: Link) -> None:
    """Make ``one`` and ``other`` the two ends of a stream."""
    for end, link in zip(socket.socketpair(), (one, other), strict=True):
        adopt(reactor, end.detach(), link)


def join(buses: dict[str, RelayBus]) -> None:
    """Give every two of the buses a stream."""
    names = list(buses)
    for place, name in enumerate(names):
        for other in names[place + 1 :]:
            connect(buses[name].meet(other), buses[other].meet(name))


def pause(seconds: float) -> Deferred[None]:
    return deferLater(reactor, seconds)
