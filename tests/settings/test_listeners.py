"""The notation of ``LISTEN``."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechamap_rt.settings import BadValue, SystemdListener, TcpListener, UnixListener, environ_of, load
from mechamap_rt.settings.listeners import listeners


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("tcp:127.0.0.1:3000", TcpListener("127.0.0.1", 3000)),
        ("TCP:[::1]:0", TcpListener("::1", 0)),
        ("tcp:localhost:80", TcpListener("localhost", 80)),
        ("unix:/run/x.sock", UnixListener("/run/x.sock", 0o660)),
        ("unix:/run/x.sock:600", UnixListener("/run/x.sock", 0o600)),
        ("unix:/run/x.sock:0666", UnixListener("/run/x.sock", 0o666)),
        ("unix:/run/x:660:600", UnixListener("/run/x:660", 0o600)),
        ("unix:/run/a:b", UnixListener("/run/a:b", 0o660)),
        ("unix:/run/x:1777", UnixListener("/run/x:1777", 0o660)),
        ("systemd", SystemdListener()),
        ("systemd:web", SystemdListener("web")),
        ("systemd:0", SystemdListener(0)),
    ],
)
def test_one_listener(text: str, value: object) -> None:
    assert listeners.parse(text) == (value,)
    assert listeners.parse(listeners.format((value,))) == (value,)


def test_several() -> None:
    found = listeners.parse("tcp:127.0.0.1:3000, unix:/run/x ,systemd:a,tcp:127.0.0.1:3000")
    assert found == (TcpListener("127.0.0.1", 3000), UnixListener("/run/x"), SystemdListener("a"))
    assert listeners.format(found) == "tcp:127.0.0.1:3000,unix:/run/x:660,systemd:a"


@pytest.mark.parametrize(
    "text",
    [
        "3000",
        "127.0.0.1:3000",
        "tcp",
        "tcp:3000",
        "tcp::3000",
        "tcp:::1:3000",
        "tcp:a:65536",
        "tcp:a b:1",
        "udp:a:1",
        "unix",
        "unix:",
        "unix:run/x",
        "unix:/",
        "unix:/run/",
        "unix:/run/\x01",
        "unix:/" + "é" * 60,
        "systemd:",
        "systemd:a:b",
        "systemd:a b",
        "systemd: ",
        "systemd:é",
        ",",
    ],
)
def test_what_is_refused(text: str) -> None:
    with pytest.raises(BadValue, match=r"^(each element )?must"):
        listeners.parse(text)


@given(st.text() | st.from_regex(r"(tcp|unix|systemd):.*", fullmatch=True))
def test_what_is_read_can_be_written(text: str) -> None:
    try:
        value = listeners.parse(text)
    except BadValue:
        return
    assert listeners.parse(listeners.format(value)) == value


def test_it_survives_the_way_to_a_worker() -> None:
    settings = load({"LISTEN": "tcp:[::]:0,unix:/run/x:600,systemd:1", "HOST_ID": "a7z"}, None).settings
    assert load(environ_of(settings), None).settings == settings
