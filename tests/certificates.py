"""Certificates for tests: an authority that signs whatever is asked for."""

from __future__ import annotations

import datetime
import ipaddress
import os
import ssl
from datetime import timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

#: The days for which a certificate is good.
LIFE = timedelta(days=90)


def ec_key() -> Any:
    return ec.generate_private_key(ec.SECP256R1())


def rsa_key(bits: int = 2048) -> Any:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def pem(key: Any, password: bytes | None = None) -> bytes:
    """A private key, encrypted with a password where there is one."""
    secrecy = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, secrecy))


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Authority:
    """Signs certificates.

    :ivar path: its own, for those who are to believe it.
    :ivar context: believes it; for clients.
    """

    def __init__(self, folder: Path) -> None:
        self._key = ec_key()
        now = datetime.datetime.now(datetime.UTC)
        name = _name("Test authority")
        self._certificate = (
            self._builder(name, self._key.public_key(), now - timedelta(days=1), now + timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = self._certificate.public_bytes(serialization.Encoding.PEM).decode()
        self.path = folder / "authority.pem"
        self.path.write_text(self.pem)
        self.context = ssl.create_default_context(cadata=self.pem)

    def _builder(
        self, subject: x509.Name, key: Any, since: datetime.datetime, until: datetime.datetime
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(_name("Test authority"))
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(since)
            .not_valid_after(until)
        )

    def sign(
        self,
        name: str = "localhost",
        key: Any = None,
        since: timedelta = -timedelta(hours=1),
        until: timedelta = LIFE,
    ) -> tuple[bytes, bytes]:
        """A certificate of this host with its chain, and its key, both PEM.

        :param since: from now, as ``until``.
        """
        key = ec_key() if key is None else key
        now = datetime.datetime.now(datetime.UTC)
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))]
        certificate = (
            self._builder(_name(name), key.public_key(), now + since, now + until)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM) + self.pem.encode(), pem(key)


class Installed:
    """The two files of a server, which are replaced as certbot replaces them: links, bent at once."""

    def __init__(self, folder: Path, certificate: bytes, key: bytes) -> None:
        self._folder = folder
        self._number = 0
        self.certificate = folder / "live" / "fullchain.pem"
        self.key = folder / "live" / "privkey.pem"
        for name in ("live", "archive"):
            (folder / name).mkdir(parents=True)
        self.renew(certificate, key)

    @property
    def settings(self) -> dict[str, str]:
        return {"SSL_ENABLED": "true", "SSL_CERT_PATH": str(self.certificate), "SSL_KEY_PATH": str(self.key)}

    def renew(self, certificate: bytes | None = None, key: bytes | None = None) -> None:
        """Put another certificate, or key, in the place of the one there is."""
        self._number += 1
        for link, text in ((self.certificate, certificate), (self.key, key)):
            if text is not None:
                kept = self._folder / "archive" / f"{link.stem}{self._number}.pem"
                kept.write_bytes(text)
                fresh = link.with_suffix(".new")
                fresh.symlink_to(kept)
                os.replace(fresh, link)
