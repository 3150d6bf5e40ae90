"""The service manager is told, over a datagram socket, and nobody minds when it is not there."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from mechamap_rt.system.notify import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as one:
        one.bind(str(tmp_path / "notify"))
        yield one


def test_every_state_is_one_datagram(manager: socket.socket) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.getsockname()}, clock=lambda: 1_234_567_890)
    assert notifier.configured
    notifier.ready()
    notifier.reloading()
    notifier.status("4 workers\nREADY=1\r\n busy ")
    notifier.watchdog()
    notifier.main_pid(17)
    notifier.stopping()
    assert [manager.recv(200) for _ in range(6)] == [
        b"READY=1",
        b"RELOADING=1\nMONOTONIC_USEC=1234567",
        b"STATUS=4 workers READY=1 busy",
        b"WATCHDOG=1",
        b"MAINPID=17",
        b"STOPPING=1",
    ]


def test_the_abstract_namespace() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as manager:
        name = f"mechamap-test-{os.getpid()}"
        manager.bind(f"\0{name}")
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).ready()
        assert manager.recv(200) == b"READY=1"


@pytest.mark.parametrize("place", ["", "/nonexistent/notify", "relative", "/" + "x" * 200, "vsock:2:1234", "@"])
def test_without_a_manager_nothing_happens(place: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": place})
    notifier.ready()
    notifier.status("\ud800")
    assert not Notifier({}).configured


def test_a_manager_that_does_not_read_is_not_waited_for(manager: socket.socket) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.getsockname()})
    for _ in range(2000):
        notifier.watchdog()


@pytest.mark.parametrize(
    ("usec", "pid", "interval"),
    [
        ("30000000", "", 15.0),
        ("30000000", "{self}", 15.0),
        ("30000000", "1", None),
        ("0", "", None),
        ("", "", None),
        ("-5", "", None),
        ("soon", "", None),
    ],
)
def test_the_watchdog_is_called_twice_as_often_as_it_must(usec: str, pid: str, interval: float | None) -> None:
    environ = {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": usec, "WATCHDOG_PID": pid.format(self=os.getpid())}
    assert Notifier(environ).watchdog_interval == interval
    assert Notifier(environ | {"NOTIFY_SOCKET": ""}).watchdog_interval is None


def test_the_watchdog_is_called_until_the_stop_while_all_is_well(manager: socket.socket) -> None:
    clock, healthy = Clock(), [True]
    notifier = Notifier({"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "30000000"})
    notifier.watch_over(clock, lambda: healthy)
    clock.advance(15)
    assert [manager.recv(200) for _ in range(2)] == [b"WATCHDOG=1"] * 2
    healthy.clear()
    clock.advance(15)
    with pytest.raises(BlockingIOError):
        manager.recv(200)
    healthy.append(True)
    clock.advance(15)
    assert manager.recv(200) == b"WATCHDOG=1"
    notifier.stopping()
    assert manager.recv(200) == b"STOPPING=1"
    assert clock.getDelayedCalls() == []


def test_who_watches_nothing_is_told_nothing(manager: socket.socket) -> None:
    clock = Clock()
    Notifier({"NOTIFY_SOCKET": manager.getsockname()}).watch_over(clock)
    assert clock.getDelayedCalls() == []
    with pytest.raises(BlockingIOError):
        manager.recv(200)
