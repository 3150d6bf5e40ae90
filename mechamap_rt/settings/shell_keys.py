"""The files of the manhole: the keys that open it, and its own (``MANHOLE_AUTHORIZED_KEYS``, ``MANHOLE_HOST_KEY``)."""

from __future__ import annotations

import base64
import binascii
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from mechamap_rt.settings.control_socket import private_directory
from mechamap_rt.settings.model import Settings

#: Bytes of a file of keys.
LONGEST: Final = 256 * 1024
#: The host key's file, where no other is set.
DEFAULT_NAME: Final = "manhole_host_key"
#: Kinds of public keys: RFC 4253 section 6.6, RFC 5656, RFC 8709.
_KINDS: Final = frozenset(
    (
        "ssh-ed25519",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "ssh-rsa",
    )
)
#: Who must not be able to write the one file, and to do anything with the other.
_WRITERS: Final = stat.S_IWGRP | stat.S_IWOTH
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class UnusableKeysError(ValueError):
    """A file of keys that cannot be used; the text continues the setting's name, such as ``must not be …``."""


class _MissingError(UnusableKeysError):
    """There is no such file."""


def authorized(path: str) -> frozenset[bytes]:
    """The public keys in a file of sshd(8)'s form: the encoded key (RFC 4253 section 6.6) of each line.

    Lines with options before the key are refused: an option that restricts a key must not be overlooked.

    :raises UnusableKeysError: there is no such file, others may write it, or it has a line that is no key, or none.
    """
    found = set()
    for number, line in enumerate(_text(path, _WRITERS, "must not be writable for its group or others").split("\n"), 1):
        words = line.split()
        if words and not words[0].startswith("#"):
            found.add(_key(words, number))
    if not found:
        raise UnusableKeysError("must be the path of a file with at least one public key")
    return frozenset(found)


def _key(words: list[str], number: int) -> bytes:
    kind = words[0]
    try:
        blob = base64.b64decode(words[1], validate=True)
    except (IndexError, binascii.Error, ValueError):
        blob = b""
    encoded = kind.encode()
    if kind not in _KINDS or not blob.startswith(len(encoded).to_bytes(4, "big") + encoded):
        raise UnusableKeysError(f"must have a public key on each line, without options, and line {number} has none")
    return blob


def private_key(path: Path, owner: int | None = None) -> bytes | None:
    """What is in the file of the host key; ``None`` where there is none yet.

    :param owner: the user whose it must be.
    :raises UnusableKeysError: it belongs to somebody else, or is open to others, or is no file.
    """
    try:
        text = _text(str(path), _OTHERS, "must be open to its owner only (mode 0600)", owner)
    except _MissingError:
        return None
    return text.encode("utf-8", "surrogateescape")


def _text(path: str, forbidden: int, sentence: str, owner: int | None = None) -> str:
    """The text of a file without the modes ``forbidden``, which ``sentence`` explains."""
    try:
        # a FIFO must not hold up whoever reads
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise _MissingError("must be the path of a file that exists") from None
    except (OSError, ValueError):
        raise UnusableKeysError("must be the path of a file that this account may read") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UnusableKeysError("must be the path of a file")
        if owner not in (None, status.st_uid):
            raise UnusableKeysError(f"must be a file of the server's account (user {owner})")
        if status.st_mode & forbidden:
            raise UnusableKeysError(f"{sentence}, and has mode {stat.S_IMODE(status.st_mode):04o}")
        content = os.read(descriptor, LONGEST + 1)
    finally:
        os.close(descriptor)
    if len(content) > LONGEST:
        raise UnusableKeysError(f"must have at most {LONGEST // 1024} kB")
    return content.decode("utf-8", "surrogateescape")


def host_key_path(settings: Settings, environ: Mapping[str, str], uid: int) -> Path:
    """The file of the host key: ``MANHOLE_HOST_KEY``, else in systemd's state directory, else beside the operator's
    socket, where it may not outlive the host.

    :param environ: ``STATE_DIRECTORY`` is systemd's; several are joined by colons, and the first counts.
    :raises UnusableSocketError, OSError: as :func:`~mechamap_rt.settings.control_socket.private_directory`.
    """
    if settings.manhole.host_key:
        return Path(settings.manhole.host_key).absolute()
    state = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return (Path(state) if state else private_directory(environ, uid)) / DEFAULT_NAME
