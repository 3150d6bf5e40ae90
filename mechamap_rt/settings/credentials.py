"""A server's certificate and key in PEM: read, checked, every fault named, and nothing said of what is in the files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import NameOID

from mechamap_rt.settings.faults import Fault

CERTIFICATE: Final = "SSL_CERT_PATH"
KEY: Final = "SSL_KEY_PATH"

#: Bytes of a file: a chain of certificates has some ten thousand at most.
MAX_FILE: Final = 1024 * 1024
#: Bits of an RSA key: shorter ones OpenSSL does not take, nor do browsers.
LEAST_RSA: Final = 2048
#: The curves that browsers take for a certificate's key.
_CURVES: Final = ("secp256r1", "secp384r1", "secp521r1")

#: Characters of a name that are shown.
_SHOWN: Final = 100


class CredentialsError(Exception):
    """Certificate and key cannot be used.

    :ivar faults: all that is wrong with them.
    """

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(map(str, self.faults)))


@dataclass(frozen=True, slots=True)
class Credentials:
    """A certificate with its chain, and its key, that belong together.

    :ivar certificate: PEM: the certificate, followed by its chain.
    :ivar key: PEM.
    :ivar chain: the same certificates, parsed.
    :ivar private: the same key.
    :ivar subject: whose it is: its common name, or the first of its names.
    :ivar since: when it begins to be valid, seconds since the epoch.
    :ivar until: when it ends to be.
    """

    certificate: bytes = field(repr=False)
    key: bytes = field(repr=False)
    chain: tuple[x509.Certificate, ...] = field(repr=False, compare=False)
    private: Any = field(repr=False, compare=False)
    subject: str = field(compare=False)
    since: float = field(compare=False)
    until: float = field(compare=False)

    @classmethod
    def parse(cls, certificate: bytes, key: bytes) -> Credentials:
        """:raises CredentialsError: they are no such thing, or do not belong together."""
        faults: list[Fault] = []
        chain = _certificates(certificate, faults)
        private = _private(key, faults)
        if not faults and chain[0].public_key() != private.public_key():
            faults.append(Fault(KEY, f"must be the path of the key of the first certificate in {CERTIFICATE}"))
        if faults:
            raise CredentialsError(faults)
        first = chain[0]
        since, until = first.not_valid_before_utc.timestamp(), first.not_valid_after_utc.timestamp()
        return cls(certificate, key, chain, private, _subject(first), since, until)

    def valid(self, now: float) -> bool:
        """Is it, as far as time goes?"""
        return self.since <= now < self.until


def read(certificate: str, key: str) -> Credentials:
    """What is in two files now. Blocks for as long as it takes to read them.

    :raises CredentialsError: with every fault.
    """
    faults: list[Fault] = []
    found = [_bytes(name, path, faults) for name, path in ((CERTIFICATE, certificate), (KEY, key))]
    try:
        credentials = Credentials.parse(*(text or b"" for text in found))
    except CredentialsError as error:
        unread = {fault.name for fault in faults}
        faults += [fault for fault in error.faults if fault.name not in unread]
        raise CredentialsError(faults) from None
    return credentials


def _bytes(name: str, path: str, faults: list[Fault]) -> bytes | None:
    try:
        with open(path, "rb") as file:
            text = file.read(MAX_FILE + 1)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        faults.append(Fault(name, "must be the path of a file that exists"))
    except (OSError, ValueError):
        faults.append(Fault(name, "must be the path of a file that this account may read"))
    else:
        if len(text) <= MAX_FILE:
            return text
        faults.append(Fault(name, f"must be the path of a file of at most {MAX_FILE} bytes"))
    return None


def _certificates(text: bytes, faults: list[Fault]) -> tuple[x509.Certificate, ...]:
    try:
        chain = tuple(x509.load_pem_x509_certificates(text))
        if len(chain) != text.count(b"-----BEGIN CERTIFICATE-----"):
            # the parser passes over one that is not there to its end: the file is being written
            raise ValueError
        weakness = _weakness(chain[0].public_key())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        faults.append(Fault(CERTIFICATE, "must be the path of a file with certificates in PEM"))
        return ()
    if weakness:
        faults.append(Fault(CERTIFICATE, weakness))
    return chain


def _weakness(key: Any) -> str:
    """Why a key is none that a server should have; empty when it is."""
    strong = (
        (isinstance(key, rsa.RSAPublicKey) and key.key_size >= LEAST_RSA)
        or (isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES)
        or isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey)
    )
    return "" if strong else f"must have a key of RSA, {LEAST_RSA} bits or more, of ECDSA on a NIST curve, or of EdDSA"


def _private(text: bytes, faults: list[Fault]) -> Any:
    try:
        # that it belongs to the certificate is looked at; whether its primes are some takes a tenth of a second
        return serialization.load_pem_private_key(text, None, unsafe_skip_rsa_key_validation=True)
    except TypeError:
        faults.append(
            Fault(KEY, "must be the path of a key that is not encrypted: there is nobody to ask for a password")
        )
    except (ValueError, UnsupportedAlgorithm):
        faults.append(Fault(KEY, "must be the path of a file with a private key in PEM"))
    return None


def _subject(certificate: x509.Certificate) -> str:
    """Whose it is, in words that are fit for a log."""
    names = [str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        pass
    else:
        names += extension.value.get_values_for_type(x509.DNSName)
        names += map(str, extension.value.get_values_for_type(x509.IPAddress))
    first = next(filter(None, names), "unnamed")
    return "".join(letter if letter.isprintable() else "?" for letter in first[:_SHOWN])
