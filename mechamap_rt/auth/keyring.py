"""Several secrets for one lock: the current one, and those that it has replaced and that are still accepted."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from hmac import compare_digest
from typing import Final

#: Hexadecimal digits by which a secret is told from others where it must not be shown.
FINGERPRINT: Final = 8


class KeyRing:
    """Compares what is given with every secret there is, in a time that does not tell which one it is like.

    :param secrets: the current one first; empty ones are none.
    :ivar fingerprints: the first digits of the SHA-256 of each, in the same order.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        self._secrets = [secret.encode() for secret in secrets if secret]
        self.fingerprints: Final = tuple(fingerprint(secret) for secret in self._secrets)

    def find(self, given: bytes) -> int | None:
        """The place of the secret that was given; ``None`` where it is none of them."""
        found = None
        for place, secret in enumerate(self._secrets):
            # no early end: how long it takes does not say which one fits
            if compare_digest(given, secret):
                found = place
        return found

    def matches(self, given: bytes) -> bool:
        """Is it one of them?"""
        return self.find(given) is not None


def fingerprint(secret: bytes) -> str:
    """What a secret is called where it must not be shown: eight hexadecimal digits of its SHA-256."""
    return sha256(secret).hexdigest()[:FINGERPRINT]
