"""The manhole's own key (Ed25519, RFC 8709), made once, so that whoever comes back knows where he is."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.conch.ssh.keys import BadKeyError, EncryptedKeyError, Key

from mechamap_rt.settings.shell_keys import UnusableKeysError, private_key


def load_or_make(path: Path) -> Key:
    """The key in ``path``, which is made with mode 0600 where there is none.

    :raises UnusableKeysError: there is one, and others may read it, or it is none of Ed25519 without a passphrase.
    :raises OSError: it cannot be written.
    """
    found = private_key(path, os.geteuid())
    if found is None:
        _make(path)
        found = private_key(path, os.geteuid())
    try:
        key: Key = Key.fromString(found)
    except (BadKeyError, EncryptedKeyError, ValueError):
        raise UnusableKeysError("must be a private key without a passphrase, in OpenSSH's form") from None
    if key.sshType() != b"ssh-ed25519" or key.isPublic():
        raise UnusableKeysError("must be a private key of Ed25519")
    return key


def _make(path: Path) -> None:
    """Write a new key. It is there as a whole or not at all, and one that somebody else made meanwhile stays."""
    text = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "wb") as file:
            # whatever the umask is
            os.fchmod(file.fileno(), 0o600)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        os.unlink(draft)


def known(key: Key) -> str:
    """The public half, as known_hosts has it: kind and key."""
    text: str = key.public().toString("OPENSSH").decode()
    return " ".join(text.split()[:2])
