"""Find the running server: which socket it may listen on, and on which one somebody answers."""

from __future__ import annotations

import errno
import os
import pwd
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mechamap_rt.cli.failure import Failure
from mechamap_rt.settings import CATALOGUE, BadValue, Control, Fault, Server, Settings
from mechamap_rt.settings import control_socket as rule
from mechamap_rt.settings.model import Source
from mechamap_rt.settings.sources import gather

_START = "Is the server running? `twistd mechamap` starts it. `--socket PATH` looks elsewhere."
_NEEDED = frozenset(("CONTROL_SOCKET", "PORT", "LISTEN"))
_FULL_QUEUE_PAUSE = 0.05


def connect(chosen: Path | None, environ: Mapping[str, str], env_file: Path | None, timeout: float) -> socket.socket:
    """A connection to the server's socket; ``getpeername`` tells its path.

    :param chosen: the only path to try; None: where the settings, or else the defaults, say it is.
    :param timeout: seconds to wait for a server that does not accept.
    :raises Failure: nobody is there, or somebody who may not be reached, or several are.
    """
    try:
        if chosen is not None:
            return _connect_one([rule.fitting(chosen)], timeout)
        settings = needed_settings(environ, env_file)
        paths = rule.candidates(settings, environ, os.geteuid())
    except rule.UnusableSocketError as unusable:
        raise Failure("BAD_SOCKET_PATH", str(unusable), "`--socket PATH` or CONTROL_SOCKET gives another.") from None
    if not paths:
        raise _nowhere(settings, environ)
    return _connect_one(paths, timeout)


def needed_settings(environ: Mapping[str, str], env_file: Path | None) -> Settings:
    """Settings of which only ``CONTROL_SOCKET``, ``PORT`` and ``LISTEN`` are read.

    The others are the server's concern: to look after it, nobody needs its secrets or a flawless configuration.

    :raises Failure: one of them, or the file, cannot be read.
    """
    sources = gather(environ, env_file)
    faults, where = list(sources.faults), dict[str, Source]()
    values: dict[str, dict[str, Any]] = {"server": {}, "control": {}}
    for section, attribute, option in CATALOGUE:
        if option.name not in _NEEDED or (text := sources.pick(option)) is None:
            continue
        where[option.name] = text.origin
        try:
            values[section][attribute] = option.kind.parse(text.text)
        except BadValue as bad:
            faults.append(Fault(text.name, bad.reason))
    if faults:
        raise bad_settings(faults, "`--socket PATH` does without them.")
    return Settings(
        server=Server(**values["server"]), control=Control(**values["control"]), sources=MappingProxyType(where)
    )


def bad_settings(faults: Sequence[Fault], hint: str = "") -> Failure:
    """Faults of the settings, as the failure of a command."""
    message = "\n  ".join(["The settings are not valid:", *map(str, faults)])
    return Failure(
        "BAD_SETTINGS", message, hint, faults=[{"name": fault.name, "message": fault.message} for fault in faults]
    )


def _connect_one(paths: Sequence[Path], timeout: float) -> socket.socket:
    """A connection to the only one of ``paths`` on which somebody listens."""
    connections: list[socket.socket] = []
    failures: list[Failure] = []
    for path in paths:
        try:
            connections.append(_connect(path, timeout))
        except Failure as failure:
            failures.append(failure)
    hung = [failure for failure in failures if failure.code == "NO_ANSWER"]
    if len(connections) == 1 and not hung:
        return connections[0]
    for connection in connections:
        connection.close()
    if len(connections) + len(hung) > 1:
        listed = [str(path) for path in paths]
        message = f"Several servers are running: {', '.join(listed)}"
        raise Failure("SEVERAL_SERVERS", message, "`--socket PATH` says which one is meant.", paths=listed)
    # The reason that is worth most: a server that hangs is there, one that is out of reach may be.
    order = ("NO_ANSWER", "PERMISSION_DENIED", "STALE_SOCKET")
    raise min(failures, key=lambda failure: order.index(failure.code) if failure.code in order else len(order))


def _connect(path: Path, timeout: float) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    deadline = time.monotonic() + timeout
    connection.settimeout(timeout)
    while True:
        try:
            connection.connect(os.fsencode(path))
            return connection
        except BlockingIOError:
            # unix(7) has no EINPROGRESS: a listener whose queue is full says EAGAIN, over and over.
            if time.monotonic() < deadline:
                time.sleep(min(_FULL_QUEUE_PAUSE, timeout))
                continue
            connection.close()
            raise no_answer(str(path), timeout) from None
        except (OSError, ValueError) as error:
            connection.close()
            raise _unreachable(path, error) from None
        except BaseException:
            connection.close()
            raise


def no_answer(path: str, seconds: float) -> Failure:
    """The server is there, and silent."""
    return Failure(
        "NO_ANSWER",
        f"The server at {path} did not answer within {seconds:g} s",
        "It may be busy or hung: see its log. `--timeout SECONDS` waits longer.",
        path=path,
    )


def _unreachable(path: Path, error: OSError | ValueError) -> Failure:
    at = str(path)
    if isinstance(error, PermissionError):
        owner = _owner(path)
        hint = f"Run this command as {owner}, or with sudo."
        return Failure("PERMISSION_DENIED", f"The socket {at} belongs to {owner}: permission denied", hint, path=at)
    if isinstance(error, ConnectionRefusedError):
        # Linux refuses alike what is no socket at all.
        message = f"Nobody listens on the socket {at}: a server that ended without removing it left it behind"
        return Failure("STALE_SOCKET", message, _START, path=at)
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return Failure("NO_SERVER", f"There is no socket {at}", _START, paths=[at])
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return Failure("NO_SERVER", f"The socket {at} cannot be reached: {reason}", _START, paths=[at])


def _listens(path: Path) -> bool:
    """Is there a server behind it? Killed ones leave their sockets."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.setblocking(False)
        return asking.connect_ex(os.fsencode(path)) in (0, errno.EAGAIN)


def _owner(path: Path) -> str:
    """Who owns ``path``, or the nearest directory above it that can be seen."""
    for place in (path, *path.absolute().parents):
        try:
            uid = os.stat(place).st_uid
        except OSError:
            continue
        try:
            return f"user {pwd.getpwuid(uid).pw_name}"
        except KeyError:
            return f"user {uid}"
    return "another user"


def _nowhere(settings: Settings, environ: Mapping[str, str]) -> Failure:
    uid = os.geteuid()
    known = rule.port_is_known(settings)
    name = rule.name_of(settings.server.port) if known else "mechamap-*.sock"
    paths = [str(directory / name) for directory in rule.default_directories(environ, uid)]
    message = "\n  ".join(["There is no server's socket; looked for:", *paths])
    others = [str(path) for path in rule.all_sockets(environ, uid) if _listens(path)] if known else []
    hint = _START
    if others:
        hint += f" There are sockets of other ports than {settings.server.port}: {', '.join(others)}"
    return Failure("NO_SERVER", message, hint, paths=paths, others=others)
