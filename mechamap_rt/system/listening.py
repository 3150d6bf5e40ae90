"""The listening sockets: bound once, by the process that keeps them, and taken over by the workers.

A worker that stops, crashes or is replaced leaves the socket and the connections waiting in its queue to the others.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterable, Iterator, MutableMapping
from dataclasses import dataclass
from socket import AddressFamily
from typing import Any, Final

from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IReactorCore

from mechamap_rt.settings import Settings
from mechamap_rt.settings.listeners import Listener, SystemdListener, TcpListener, UnixListener
from mechamap_rt.system.accepting import TcpPort, UnixPort
from mechamap_rt.system.scoreboard import FairShare

#: Connections that may wait to be accepted: when many clients come back at once, nobody should be refused.
BACKLOG: Final = 4096
#: The first descriptor that systemd passes (``SD_LISTEN_FDS_START``).
FIRST_PASSED: Final = 3
_SYSTEMD: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)


class ListenError(Exception):
    """Nothing listens.

    :ivar faults: every reason, a sentence each, which begins with the listener.
    """

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(self.faults))


class _Refused(Exception):
    """One listener cannot be; ``str`` is the sentence."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A socket that listens.

    :ivar socket: non-blocking; not inherited by children unless they are given its descriptor.
    :ivar url: ``http://127.0.0.1:3000`` with the port that it really has, or ``unix:/run/mechamap.sock``.
    :ivar made: device and inode of the unix socket that was made for it; None for what is not ours to remove.
    """

    socket: socket.socket
    url: str
    made: tuple[int, int] | None = None

    @property
    def family(self) -> AddressFamily:
        """``AF_INET``, ``AF_INET6`` or ``AF_UNIX``."""
        return AddressFamily(self.socket.family)

    def unlink(self) -> None:
        """Remove the unix socket's file, unless somebody has put another one in its place."""
        if self.made is not None:
            _unlink_if(self.url.removeprefix("unix:"), self.made)


def bind(settings: Settings, environ: MutableMapping[str, str]) -> list[Bound]:
    """Every socket that ``LISTEN``, or ``HOST`` and ``PORT``, asks for. Looks names up, so only for the start.

    :param environ: what systemd says about the sockets it passes (``sd_listen_fds(3)``) is taken out of it.
    :raises ListenError: with every fault; then no socket is left open and no file behind.
    """
    passed = Passed.take(environ)
    wanted = settings.server.listen or (TcpListener(settings.server.host, settings.server.port),)
    scheme = "https" if settings.tls.enabled else "http"
    bound: list[Bound] = []
    faults: list[str] = []
    for listener in wanted:
        try:
            bound += _bind(listener, scheme, passed)
        except _Refused as refused:
            faults.append(str(refused))
    if not faults:
        return bound
    for one in bound:
        one.unlink()
        one.socket.close()
    raise ListenError(faults)


def adopt(
    reactor: IReactorCore,
    bound: Bound | int,
    factory: IProtocolFactory,
    family: int | None = None,
    share: FairShare | None = None,
) -> IListeningPort:
    """Accept connections of a socket that other processes may be listening on too.

    Does what ``reactor.adoptStreamPort`` does, including that the descriptor is duplicated, but with ports that leave
    the socket to the others when they stop (see :mod:`mechamap_rt.system.accepting`).

    :param bound: or the descriptor of a listening socket, non-blocking.
    :param family: of a descriptor; None to ask it.
    :param share: what makes the processes take equal parts; None to take whatever comes.
    """
    descriptor = bound if isinstance(bound, int) else bound.socket.fileno()
    if family is None:
        with socket.socket(fileno=os.dup(descriptor)) as asked:
            family = asked.family
    port: TcpPort | UnixPort
    if family == socket.AF_UNIX:
        port = UnixPort._fromListeningDescriptor(reactor, descriptor, factory)
    else:
        port = TcpPort._fromListeningDescriptor(reactor, descriptor, family, factory)
    port.share = share
    port.startListening()
    return port


def _bind(listener: Listener, scheme: str, passed: Passed) -> Iterable[Bound]:
    if isinstance(listener, TcpListener):
        return [_bind_tcp(listener, scheme)]
    if isinstance(listener, UnixListener):
        return [_bind_unix(listener)]
    return [Bound(one, _url(one, scheme)) for one in passed.pick(listener)]


def _url(listening: socket.socket, scheme: str) -> str:
    name = listening.getsockname()
    if listening.family == socket.AF_UNIX:
        return f"unix:@{os.fsdecode(name[1:])}" if isinstance(name, bytes) else f"unix:{name}"
    return f"{scheme}://{_place(name[0], name[1])}"


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


# TCP


def _bind_tcp(listener: TcpListener, scheme: str) -> Bound:
    place = _place(listener.host, listener.port)
    try:
        found = socket.getaddrinfo(listener.host, listener.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError):
        raise _Refused(f"{place}: there is no host of this name") from None
    # as Twisted's listenTCP: a name such as localhost means its IPv4 address if it has one
    family, _, _, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)

    try:
        listening = _listen_tcp(family, address)
    except OSError as error:
        raise _Refused(f"{place}: {_reason(error, listener.port)}") from None
    return Bound(listening, _url(listening, scheme))


def _listen_tcp(family: int, address: tuple[Any, ...]) -> socket.socket:
    one = _fresh(family)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and address[0] == "::":
            # IPv4 as well, whatever net.ipv6.bindv6only says; Twisted leaves it to that, which is off nearly everywhere
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        one.bind(address)
        one.listen(BACKLOG)
    except BaseException:
        one.close()
        raise
    return one


def _fresh(family: int) -> socket.socket:
    return socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)


def _reason(error: OSError, port: int = 0) -> str:
    if error.errno == errno.EACCES and 0 < port < 1024:
        return "permission denied; ports below 1024 need root or CAP_NET_BIND_SERVICE"
    words = {
        errno.EADDRINUSE: "already in use",
        errno.EADDRNOTAVAIL: "not an address of this host",
        errno.EAFNOSUPPORT: "this host does not speak IPv6",
        errno.ENOENT: "the directory does not exist",
    }
    return words.get(error.errno or 0) or (error.strerror or type(error).__name__).lower()


# unix


def bind_unix(listener: UnixListener) -> Bound:
    """A unix socket.

    :raises ListenError: it cannot be.
    """
    try:
        return _bind_unix(listener)
    except _Refused as refused:
        raise ListenError([str(refused)]) from None


def _bind_unix(listener: UnixListener) -> Bound:
    path = listener.path
    try:
        if _is_left_over(path):
            os.unlink(path)
        listening = _fresh(socket.AF_UNIX)
        try:
            made = _listen_unix(listening, listener)
        except BaseException:
            listening.close()
            raise
    except OSError as error:
        raise _Refused(f"unix:{path}: {_reason(error)}") from None
    return Bound(listening, f"unix:{path}", made)


def _listen_unix(one: socket.socket, listener: UnixListener) -> tuple[int, int]:
    # The file gets the mode of the socket, less the umask: set before there is a file, it is never more open than
    # asked. The umask itself belongs to all threads, so it is not touched.
    os.fchmod(one.fileno(), listener.mode)
    one.bind(listener.path)
    state = os.lstat(listener.path)
    made = state.st_dev, state.st_ino
    try:
        os.chmod(listener.path, listener.mode)
        one.listen(BACKLOG)
    except BaseException:
        _unlink_if(listener.path, made)
        raise
    return made


def _is_left_over(path: str) -> bool:
    """Whether there is a socket at ``path`` on which nobody listens any more.

    :raises _Refused: for what must stay.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISSOCK(mode):
        raise _Refused(f"unix:{path}: exists and is not a socket")
    with _fresh(socket.AF_UNIX) as client:
        found = client.connect_ex(path)
    if found == errno.ECONNREFUSED:
        return True
    if found in (errno.ENOENT, errno.EACCES):
        raise _Refused(f"unix:{path}: {os.strerror(found).lower()}")
    raise _Refused(f"unix:{path}: already in use")


def _unlink_if(path: str, made: tuple[int, int]) -> None:
    try:
        state = os.lstat(path)
        if (state.st_dev, state.st_ino) == made:
            os.unlink(path)
    except OSError:
        pass  # it is gone, or the directory is


# systemd


@dataclass(frozen=True, slots=True)
class Passed:
    """The descriptors that the service manager has passed.

    :ivar names: one for each, from :data:`FIRST_PASSED` on.
    :ivar reason: why there are none.
    """

    names: tuple[str, ...] = ()
    reason: str = "systemd has passed no sockets (LISTEN_FDS is not set)"

    @classmethod
    def take(cls, environ: MutableMapping[str, str]) -> Passed:
        """Read what ``sd_listen_fds(3)`` reads, and remove it: no child may believe that it is meant."""
        pid, count, names, _ = (environ.pop(name, "") for name in _SYSTEMD)
        if not (count.isascii() and count.isdigit()):
            return cls()
        if pid != str(os.getpid()):
            return cls(reason="the sockets of LISTEN_FDS are meant for another process (LISTEN_PID)")
        given = names.split(":") if names else []
        number = min(int(count), os.sysconf("SC_OPEN_MAX"))
        return cls(tuple(given[place] if place < len(given) else "unknown" for place in range(number)))

    def pick(self, listener: SystemdListener) -> Iterator[socket.socket]:
        """The sockets that a listener means, checked.

        :raises _Refused: when there is none, or one is not a listening stream socket.
        """
        if not self.names:
            raise _Refused(f"{listener}: {self.reason}")
        which = listener.which
        places = [place for place, name in enumerate(self.names) if which is None or which in (place, name)]
        if not places:
            raise _Refused(f"{listener}: systemd has passed {len(self.names)} ({', '.join(self.names)}), not this one")
        picked: list[socket.socket] = []
        try:
            picked.extend(_inherit(FIRST_PASSED + place, str(listener)) for place in places)
        except BaseException:
            for one in picked:
                one.close()
            raise
        return iter(picked)


def _inherit(descriptor: int, listener: str) -> socket.socket:
    try:
        one = socket.socket(fileno=descriptor)
    except OSError:
        raise _Refused(f"{listener}: descriptor {descriptor} is not a socket") from None
    listens = one.family in _FAMILIES and one.type == socket.SOCK_STREAM
    if not listens or not one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        one.detach()
        raise _Refused(f"{listener}: descriptor {descriptor} is not a listening stream socket")
    one.setblocking(False)
    one.set_inheritable(False)
    return one
