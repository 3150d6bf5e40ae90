"""The kind of ``LISTEN``: sockets to bind, or to take over from systemd."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from mechamap_rt.settings.addresses import host, port
from mechamap_rt.settings.faults import BadValue
from mechamap_rt.settings.kinds import Kind, comma_list

_REASON = "must be tcp:HOST:PORT, unix:PATH, unix:PATH:MODE, systemd, systemd:NAME or systemd:INDEX"
_MODE = re.compile(r"(.*):(0?[0-7]{3})", re.DOTALL)
_NAME = re.compile(r"[!-+\--9;-~]{1,255}")  # what systemd.socket(5) lets FileDescriptorName= be, without a comma
_INDEX = re.compile(r"[0-9]{1,4}")
_LONGEST_PATH = 107
"""Bytes of ``sun_path``, less the NUL at its end (unix(7))."""


@dataclass(frozen=True, slots=True)
class TcpListener:
    """``tcp:HOST:PORT``.

    :ivar port: 0 takes any free port.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"tcp:[{self.host}]:{self.port}" if ":" in self.host else f"tcp:{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixListener:
    """``unix:PATH:MODE``.

    :ivar path: absolute, at most 107 bytes.
    :ivar mode: the permissions of the socket's file.
    """

    path: str
    mode: int = 0o660

    def __str__(self) -> str:
        return f"unix:{self.path}:{self.mode:03o}"


@dataclass(frozen=True, slots=True)
class SystemdListener:
    """``systemd``, ``systemd:NAME`` or ``systemd:INDEX``: sockets that the service manager has passed.

    :ivar which: a ``FileDescriptorName=``, the place (from 0) among the passed sockets, or None for all of them.
    """

    which: str | int | None = None

    def __str__(self) -> str:
        return "systemd" if self.which is None else f"systemd:{self.which}"


Listener = TcpListener | UnixListener | SystemdListener


def _parse_tcp(rest: str) -> TcpListener:
    name, colon, number = rest.rpartition(":")
    if not colon or (":" in name and not name.startswith("[")):
        raise BadValue(_REASON)
    return TcpListener(host.parse(name), port(any_free=True).parse(number))


def _parse_unix(rest: str) -> UnixListener:
    match = _MODE.fullmatch(rest)
    path, mode = (match[1], int(match[2], 8)) if match else (rest, 0o660)
    if not path.isprintable() or not path.startswith("/") or path.endswith("/"):
        raise BadValue(
            "must be unix: and the absolute path of a socket, with or without :MODE, such as unix:/run/x:660"
        )
    if len(path.encode()) > _LONGEST_PATH:
        raise BadValue(f"must have a path of at most {_LONGEST_PATH} bytes")
    return UnixListener(path, mode)


def _parse_systemd(rest: str) -> SystemdListener:
    if _INDEX.fullmatch(rest):
        return SystemdListener(int(rest))
    if _NAME.fullmatch(rest):
        return SystemdListener(rest)
    raise BadValue(_REASON)


_PARSERS: dict[str, Callable[[str], Listener]] = {"tcp": _parse_tcp, "unix": _parse_unix, "systemd": _parse_systemd}


def _parse_listener(text: str) -> Listener:
    scheme, colon, rest = text.partition(":")
    parse = _PARSERS.get(scheme.lower())
    if parse is None or not (colon or scheme.lower() == "systemd"):
        raise BadValue(_REASON)
    return parse(rest) if colon else SystemdListener()


listeners: Kind[tuple[Listener, ...]] = comma_list(Kind(_parse_listener, str, "tcp:…, unix:… or systemd"))
"""``tcp:127.0.0.1:3000,unix:/run/mechamap.sock:660,systemd``."""
