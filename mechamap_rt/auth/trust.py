"""Whose certificates are good, for an authority of one's own."""

from __future__ import annotations

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificates
from twisted.internet.ssl import Certificate, trustRootFromCertificates
from twisted.web.client import BrowserLikePolicyForHTTPS


def trusting(path: str) -> BrowserLikePolicyForHTTPS:
    """Certificates that the authorities in the file ``path`` (PEM) have signed, for the host that is asked.

    :raises OSError, ValueError: it cannot be read, or has none.
    """
    with open(path, "rb") as file:
        authorities = load_pem_x509_certificates(file.read())
    certificates = [Certificate.loadPEM(each.public_bytes(Encoding.PEM)) for each in authorities]
    return BrowserLikePolicyForHTTPS(trustRoot=trustRootFromCertificates(certificates))
