"""The server's certificate and key: every fault named at once, and nothing shown of what is in the files."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from mechamap_rt.settings import SettingsError, load
from mechamap_rt.settings.credentials import MAX_FILE, CredentialsError, read
from tests.certificates import Authority, ec_key, pem, rsa_key

CERTIFICATE, KEY = "SSL_CERT_PATH", "SSL_KEY_PATH"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


class Files:
    """A certificate's file and a key's."""

    def __init__(self, folder: Path) -> None:
        self.certificate, self.key = folder / "cert.pem", folder / "key.pem"

    def put(self, certificate: bytes | None, key: bytes | None) -> None:
        for path, text in ((self.certificate, certificate), (self.key, key)):
            path.unlink(missing_ok=True)
            if text is not None:
                path.write_bytes(text)

    def faults(self) -> dict[str, str]:
        """What the start would say."""
        given = {"SSL_ENABLED": "true", CERTIFICATE: str(self.certificate), KEY: str(self.key)}
        try:
            load(given, None)
        except SettingsError as error:
            found = error.faults
        else:
            found = ()
        assert len({fault.name for fault in found}) == len(found), "each is named once"
        return {fault.name: fault.message for fault in found}


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.mark.parametrize("key", [ec_key(), rsa_key(), ec.generate_private_key(ec.SECP384R1())])
def test_what_is_good(authority: Authority, files: Files, key: object) -> None:
    files.put(*authority.sign("rt.example.org", key))
    assert files.faults() == {}
    found = read(str(files.certificate), str(files.key))
    assert (found.subject, len(found.chain)) == ("rt.example.org", 2)
    assert "BEGIN" not in repr(found)


def test_an_expired_one_is_no_fault(authority: Authority, files: Files) -> None:
    files.put(*authority.sign(since=-timedelta(days=9), until=-timedelta(days=2)))
    assert files.faults() == {}


def test_every_fault_is_named(authority: Authority, files: Files) -> None:
    certificate, key = authority.sign()
    exists, encrypted = "a file that exists", "a key that is not encrypted"
    belongs = "the key of the first certificate in SSL_CERT_PATH"
    readable, private = "a file with certificates in PEM", "a file with a private key in PEM"
    cases: list[tuple[bytes | None, bytes | None, dict[str, str]]] = [
        (None, None, {CERTIFICATE: exists, KEY: exists}),
        (None, key, {CERTIFICATE: exists}),
        (certificate, None, {KEY: exists}),
        (None, b"nonsense", {CERTIFICATE: exists, KEY: private}),
        (b"", b"", {CERTIFICATE: readable, KEY: private}),
        (b"nonsense", pem(ec_key(), b"secret"), {CERTIFICATE: readable, KEY: encrypted}),
        (key, certificate, {CERTIFICATE: readable, KEY: private}),
        (certificate[:200], key, {CERTIFICATE: readable}),
        (certificate[:-40], key, {CERTIFICATE: readable}),
        (certificate, key[:90], {KEY: private}),
        (certificate, pem(ec_key()), {KEY: belongs}),
        (certificate, pem(rsa_key()), {KEY: belongs}),
        (authority.pem.encode() + certificate, key, {KEY: belongs}),
        (b"#" * (MAX_FILE + 1), key, {CERTIFICATE: "a file of at most"}),
        (authority.sign(key=rsa_key(1024))[0], key, {CERTIFICATE: "must have a key of RSA, 2048 bits or more"}),
    ]
    for number, (cert, private_key, expected) in enumerate(cases):
        files.put(cert, private_key)
        found = files.faults()
        assert found.keys() == expected.keys(), (number, found)
        assert all(words in found[name] for name, words in expected.items()), (number, found)
        shown = " ".join(found.values())
        assert "nonsense" not in shown and "MII" not in shown and str(files.key) not in shown


def test_a_folder_is_no_file(authority: Authority, files: Files) -> None:
    files.put(*authority.sign())
    files.key.unlink()
    files.key.mkdir()
    assert "a file that exists" in files.faults()[KEY]


def test_eddsa_is_possible(files: Files, authority: Authority) -> None:
    files.put(*authority.sign(key=ed25519.Ed25519PrivateKey.generate()))
    assert files.faults() == {}


def test_nothing_is_read_without_tls(files: Files) -> None:
    loaded = load({"SSL_ENABLED": "false", CERTIFICATE: str(files.certificate), KEY: str(files.key)}, None)
    assert [each.split()[0] for each in loaded.warnings] == [CERTIFICATE, KEY]


def test_a_worker_is_given_its_certificate(files: Files) -> None:
    given = {"SSL_ENABLED": "true", CERTIFICATE: str(files.certificate), KEY: str(files.key)}
    assert load(given, None, first=False).settings.tls.enabled
    with pytest.raises(CredentialsError):
        read(str(files.certificate), str(files.key))
