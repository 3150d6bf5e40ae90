"""Where the operator's unix socket is: one rule for the server, which makes it, and ``mechamapctl``."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from mechamap_rt.settings.model import Settings

LONGEST: Final = 107
"""Bytes of a unix socket's path: ``sun_path`` in unix(7) is 108 with the NUL at its end."""

_SYSTEM = Path("/run/mechamap")
_BEGINNING, _ENDING = "mechamap-", ".sock"


class UnusableSocketError(ValueError):
    """A path that cannot be the operator's socket; its text is a sentence for the operator."""


def name_of(port: int) -> str:
    """The socket's file name in one of the usual directories."""
    return f"{_BEGINNING}{port}{_ENDING}"


def default_directories(environ: Mapping[str, str], uid: int) -> list[Path]:
    """The directories in which the socket may be, the preferred one first; the last one need not exist.

    :param environ: ``RUNTIME_DIRECTORY`` is systemd's (several are joined by colons; the first counts),
        ``XDG_RUNTIME_DIR`` the session's.
    :param uid: whose private temporary directory is meant.
    """
    found = []
    if own := environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]:
        found.append(Path(own))
    if _SYSTEM.is_dir():
        found.append(_SYSTEM)
    if (session := environ.get("XDG_RUNTIME_DIR", "")) and os.path.isdir(session):
        found.append(Path(session))
    found.append(_temporary(uid))
    return list(dict.fromkeys(found))


def server_path(settings: Settings, environ: Mapping[str, str], uid: int, port: int) -> Path:
    """The path on which the server listens: ``CONTROL_SOCKET``, else in the first directory it may write to.

    Makes the private temporary directory when it comes to that.

    :param uid: the user that the server runs as.
    :param port: the TCP port that the server really has, which ``PORT=0`` does not tell.
    :raises UnusableSocketError: too long a path, or a temporary directory that others can get into.
    :raises OSError: the temporary directory cannot be made.
    """
    if settings.control.socket:
        return fitting(Path(settings.control.socket))
    return fitting(private_directory(environ, uid) / name_of(port))


def private_directory(environ: Mapping[str, str], uid: int) -> Path:
    """The first of the usual directories that this account may write to; the private temporary one is made.

    :raises UnusableSocketError: others can get into the temporary directory.
    :raises OSError: it cannot be made.
    """
    private = _temporary(uid)
    for directory in default_directories(environ, uid):
        if directory == private:
            _make_private(directory, uid)
        elif not os.access(directory, os.W_OK | os.X_OK):
            continue
        return directory
    raise AssertionError("the last directory is the private one")


def candidates(settings: Settings, environ: Mapping[str, str], uid: int) -> list[Path]:
    """The paths at which a client may find the server, in the order of the directories; it may be stale ones.

    ``CONTROL_SOCKET`` alone if it is set, whether it exists or not. Else what exists of ``mechamap-<PORT>.sock``.
    If there is none and the port is not known (:func:`port_is_known`): every ``mechamap-*.sock``. A port that is
    known rules the others out, for a command must not reach another server than the one that was meant.
    A directory that may not be searched counts as if the socket were there, so that the client learns why.

    :raises UnusableSocketError: ``CONTROL_SOCKET`` is too long.
    """
    if settings.control.socket:
        return [fitting(Path(settings.control.socket))]
    directories = [one for one in default_directories(environ, uid) if one != _temporary(uid) or _is_private(one, uid)]
    if not settings.server.listen:
        meant = [path for path in (one / name_of(settings.server.port) for one in directories) if _may_exist(path)]
        if meant or port_is_known(settings):
            return meant
    return [path for directory in directories for path in _sockets_in(directory)]


def port_is_known(settings: Settings) -> bool:
    """Whether somebody has said on which port the server is: ``PORT`` is set, not to 0, and ``LISTEN`` is not."""
    server = settings.server
    return server.port != 0 and not server.listen and settings.sources.get("PORT", "default") != "default"


def all_sockets(environ: Mapping[str, str], uid: int) -> list[Path]:
    """Every socket in the usual directories, whatever its port."""
    return [path for directory in default_directories(environ, uid) for path in _sockets_in(directory)]


def fitting(path: Path) -> Path:
    """``path`` itself, if a unix socket can have it.

    :raises UnusableSocketError: it has more than 107 bytes.
    """
    length = len(os.fsencode(path))
    if length > LONGEST:
        raise UnusableSocketError(
            f"The path of a unix socket has at most {LONGEST} bytes, and this one has {length}: {path}"
        )
    return path


def _temporary(uid: int) -> Path:
    return Path(tempfile.gettempdir()) / f"mechamap-{uid}"


def _make_private(directory: Path, uid: int) -> None:
    """Make ``directory`` for ``uid`` alone, or see that it is: everybody may make one of this name in /tmp."""
    with suppress(FileExistsError):
        os.mkdir(directory, 0o700)
    if not _is_private(directory, uid):
        raise UnusableSocketError(
            f"{directory} must be a directory (no link) of user {uid} with mode 0700: remove it, or set CONTROL_SOCKET"
        )


def _is_private(directory: Path, uid: int) -> bool:
    try:
        status = os.lstat(directory)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == uid and not status.st_mode & 0o077


def _may_exist(path: Path) -> bool:
    try:
        os.stat(path)
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False
    return True


def _sockets_in(directory: Path) -> Iterator[Path]:
    try:
        names = sorted(os.listdir(directory))
    except (OSError, ValueError):
        return
    for name in names:
        if name.startswith(_BEGINNING) and name.endswith(_ENDING):
            yield directory / name
