"""What counts as somebody's key: a signature by it, over what was to be signed, and nothing less."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from twisted.conch.error import ValidPublicKey
from twisted.conch.ssh.common import NS
from twisted.conch.ssh.keys import Key
from twisted.cred.credentials import SSHPrivateKey
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import succeed
from twisted.trial.unittest import SynchronousTestCase

from mechamap_rt.manhole.ssh import Keys, fingerprint

SAID = b"the session, the user, and what is asked for"


class KeysTests(SynchronousTestCase):
    def setUp(self) -> None:
        made: tuple[Any, ...] = (
            ed25519.Ed25519PrivateKey.generate(),
            ec.generate_private_key(ec.SECP256R1()),
            rsa.generate_private_key(65537, 2048),
        )
        self.keys = [Key(each) for each in made]
        self.stranger = Key(ed25519.Ed25519PrivateKey.generate())
        blobs = frozenset(key.blob() for key in self.keys)
        self.checker = Keys(lambda: succeed(blobs))

    def check(self, key: Key, signature: bytes | None, said: bytes = SAID) -> Any:
        return self.checker.requestAvatarId(SSHPrivateKey(b"anybody", key.sshType(), key.blob(), said, signature))

    def refused(self, key: Key, signature: bytes | None, said: bytes = SAID) -> None:
        self.failureResultOf(self.check(key, signature, said), UnauthorizedLogin)

    def sign(self, key: Key) -> bytes:
        return key.sign(SAID, b"rsa-sha2-512" if key.type() == "RSA" else key.sshType())

    def test_a_signature_by_a_key_that_is_let_in(self) -> None:
        for key in self.keys:
            self.assertEqual(self.successResultOf(self.check(key, self.sign(key))), key.blob())

    def test_without_one_the_client_may_go_on_and_is_not_in(self) -> None:
        for key in self.keys:
            self.failureResultOf(self.check(key, None), ValidPublicKey)
            self.failureResultOf(self.check(key, b""), ValidPublicKey)
        self.refused(self.stranger, None)

    def test_a_signature_by_another_key(self) -> None:
        for key in self.keys:
            for other in (*self.keys, self.stranger):
                if other is not key:
                    self.refused(key, self.sign(other))
        self.refused(self.stranger, self.sign(self.stranger))

    def test_a_signature_of_something_else(self) -> None:
        for key in self.keys:
            self.refused(key, self.sign(key), SAID + b".")

    def test_sha_1(self) -> None:
        key = self.keys[2]
        self.refused(key, key.sign(SAID, b"ssh-rsa"))

    def test_what_is_no_signature(self) -> None:
        for key in self.keys:
            good = self.sign(key)
            for bad in (b"x", bytes(4), good[:-1], good[:20], NS(key.sshType()), NS(key.sshType()) + NS(b"")):
                self.refused(key, bad)

    def test_a_key_that_is_none(self) -> None:
        checker = Keys(lambda: succeed(frozenset((b"none",))))
        credentials = SSHPrivateKey(b"anybody", b"ssh-ed25519", b"none", SAID, self.sign(self.keys[0]))
        self.failureResultOf(checker.requestAvatarId(credentials), UnauthorizedLogin)

    def test_the_fingerprint_is_that_of_ssh_keygen(self) -> None:
        """``ssh-keygen -l`` of this very key."""
        key = Key.fromString(
            b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPOleJJdP6/RLqdhuX+mplHbVVSGgClzTD9i2qil4JJY", "PUBLIC_OPENSSH"
        )
        self.assertEqual(fingerprint(key.blob()), "SHA256:+0R3vsgjPOlj2DQBHv7TuRYIKutKmtsoW047zem7KV8")
