"""Settings of the database and of what is remembered of it: faults at the start, all at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from mechamap_rt.settings import Settings, SettingsError, environ_of, load
from mechamap_rt.settings.addresses import split_server
from mechamap_rt.settings.backing import Database

MYSQL = {"DB_HOST": "db", "DB_NAME": "site", "DB_USER": "mechamap_rt"}


def settings(**environ: str) -> Settings:
    return load(environ, None).settings


def database(**environ: str) -> Database:
    return settings(**MYSQL | environ).database


def faults(**environ: str) -> dict[str, str]:
    """What stops the start."""
    try:
        load(environ, None)
    except SettingsError as error:
        return {fault.name: fault.message for fault in error.faults}
    return {}


def test_everything_that_is_wrong_is_told_at_once() -> None:
    wrong = {
        "AUTH_BACKEND": "mysql",
        "CHANNEL_AUTH": "nobody",
        "CHANNEL_RULES": "x",
        "AUTH_CACHE_TTL": "-1",
        "AUTH_CACHE_SIZE": "0",
        "AUTH_SWEEP_INTERVAL": "10",
        "DB_HOST": "db:x",
        "DB_PORT": "70000",
        "DB_CONNECTION_LIMIT": "0",
        "DB_TIMEOUT": "5s",
        "DB_READ_HOST": "a,b c",
        "DB_WRITE_HOST": "w:0",
        "DB_TIMEZONE": "Saigon",
        "DB_TLS": "perhaps",
    }
    assert set(faults(**wrong)) == set(wrong)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("AUTH_CACHE_TTL", {"0": 0.0, "1": 0.001, "300000": 300.0, "6e4": 60.0}, ["-1", "1.5x", "1e9", "5m"]),
        ("AUTH_CACHE_SIZE", {"1": 1, "2e3": 2000, "10000000": 10_000_000}, ["0", "-5", "1.5", "10000001"]),
        ("AUTH_SWEEP_INTERVAL", {"1000": 1.0, "86400000": 86400.0}, ["0", "999", "86400001", "1m"]),
    ],
)
def test_what_is_remembered(name: str, good: dict[str, Any], bad: list[str]) -> None:
    fields = {"AUTH_CACHE_TTL": "cache_ttl", "AUTH_CACHE_SIZE": "cache_size", "AUTH_SWEEP_INTERVAL": "sweep_interval"}
    for text, value in good.items():
        assert getattr(settings(**{name: text}).auth, fields[name]) == value
    for text in bad:
        assert list(faults(**{name: text})) == [name], text


@pytest.mark.parametrize("zone", ["UTC", "Asia/Ho_Chi_Minh", "Europe/Berlin", "Etc/GMT-7"])
def test_time_zones(zone: str) -> None:
    assert settings(DB_TIMEZONE=zone).database.timezone == zone


@pytest.mark.parametrize(
    "zone", ["Asia", "+07:00", "Saigon", "../../etc/passwd", "/etc/localtime", "Asia/ Ho", "UTC\x00"]
)
def test_what_is_no_time_zone(zone: str) -> None:
    found = faults(DB_TIMEZONE=zone)
    assert list(found) == ["DB_TIMEZONE"]
    assert "Asia/Ho_Chi_Minh" in found["DB_TIMEZONE"]


def test_servers_with_and_without_ports() -> None:
    made = database(
        DB_READ_HOST="r1:3307, r2 ,[::1]:3308,::2,/run/mysqld/m.sock", DB_WRITE_HOST="w:3310", DB_PORT="3399"
    )
    assert [split_server(each, made.port) for each in made.readers] == [
        ("r1", 3307),
        ("r2", 3399),
        ("::1", 3308),
        ("::2", 3399),
        ("/run/mysqld/m.sock", 3399),
    ]
    assert split_server(made.writer, made.port) == ("w", 3310)
    assert made.connections_needed == 6
    again = load(environ_of(settings(**MYSQL, DB_READ_HOST="r1:3307,[::1]:3308")), None).settings.database
    assert again.readers == ("r1:3307", "[::1]:3308")


@pytest.mark.parametrize("server", ["a b", "a:0", "a:65536", "a:x", ":3306", "http://a", "a/b", "[::1", "a:1:2"])
def test_what_is_no_server(server: str) -> None:
    for name in ("DB_HOST", "DB_READ_HOST", "DB_WRITE_HOST"):
        assert name in faults(**MYSQL | {name: server}), name


def test_without_replicas_the_writer_answers() -> None:
    assert database().readers == ("db",)
    assert database(DB_WRITE_HOST="w").readers == ("w",)
    assert (database(DB_READ_HOST="r").writer, database(DB_READ_HOST="r").readers) == ("db", ("r",))
    assert database(DB_READ_HOST="db").connections_needed == 1


def test_a_cluster_needs_a_connection_for_each_worker_and_server() -> None:
    cluster = MYSQL | {"CLUSTER_ENABLED": "1", "CLUSTER_WORKERS": "3"}
    assert faults(**cluster, DB_CONNECTION_LIMIT="3") == {}
    assert faults(**cluster, DB_CONNECTION_LIMIT="2") == {
        "DB_CONNECTION_LIMIT": "must be at least 3: one for each server and worker"
    }
    replicas = {"DB_READ_HOST": "a:1,a:2,db"}
    assert faults(**cluster, **replicas, DB_CONNECTION_LIMIT="9") == {}
    assert list(faults(**cluster, **replicas, DB_CONNECTION_LIMIT="8")) == ["DB_CONNECTION_LIMIT"]
    # as many as there may ever be
    assert list(faults(**cluster, CLUSTER_WORKERS_MAX="6", DB_CONNECTION_LIMIT="5")) == ["DB_CONNECTION_LIMIT"]
    # alone, and with the embedded one, one will do
    assert faults(**MYSQL, DB_CONNECTION_LIMIT="1") == {}
    assert faults(CLUSTER_ENABLED="1", CLUSTER_WORKERS="3", DB_CONNECTION_LIMIT="1") == {}
    # what is needed is not known while something is wrong with it
    assert list(faults(**cluster, DB_READ_HOST="a b", DB_CONNECTION_LIMIT="1")) == ["DB_READ_HOST"]


@pytest.mark.parametrize("wrong", ["CLUSTER_WORKERS_MAX", "CLUSTER_WORKERS_MIN", "CLUSTER_ENABLED", "DB_WRITE_HOST"])
def test_what_is_needed_is_not_said_while_it_is_not_known(wrong: str) -> None:
    """Whatever it is counted from."""
    environ = MYSQL | {"CLUSTER_ENABLED": "1", "CLUSTER_WORKERS": "3", "DB_CONNECTION_LIMIT": "1"} | {wrong: "x y"}
    assert list(faults(**environ)) == [wrong]


def pair(folder: Path, name: str) -> tuple[str, str]:
    """A certificate and its key, in files."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=1))
    certificate = made.sign(key, hashes.SHA256())
    cert_path, key_path = folder / f"{name}.pem", folder / f"{name}.key"
    cert_path.write_bytes(certificate.public_bytes(Encoding.PEM))
    key_path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return str(cert_path), str(key_path)


def test_tls_and_its_files(tmp_path: Path) -> None:
    cert, key = pair(tmp_path, "mine")
    missing, on = str(tmp_path / "missing.pem"), MYSQL | {"DB_TLS": "true"}
    assert faults(**on) == {}
    assert faults(**on, DB_TLS_CA=cert, DB_TLS_CERT=cert, DB_TLS_KEY=key) == {}
    every = {"DB_TLS_CA": missing, "DB_TLS_CERT": missing, "DB_TLS_KEY": str(tmp_path)}
    assert list(faults(**on, **every)) == ["DB_TLS_CA", "DB_TLS_CERT", "DB_TLS_KEY"]
    assert list(faults(**on, DB_TLS_CERT=cert)) == ["DB_TLS_KEY"]
    assert list(faults(**on, DB_TLS_KEY=key)) == ["DB_TLS_CERT"]
    assert list(faults(**on, DB_TLS_KEY=missing)) == ["DB_TLS_CERT", "DB_TLS_KEY"]
    # without TLS they have no effect, and that is said
    warnings = load(MYSQL | every, None).warnings
    assert [warning.split()[0] for warning in warnings if "DB_TLS" in warning] == sorted(every)


def test_files_that_are_there_and_no_good(tmp_path: Path) -> None:
    """The start ends with a fault, not with a traceback of whoever opens them first."""
    (cert, key), (_, other_key), empty = pair(tmp_path, "mine"), pair(tmp_path, "other"), tmp_path / "empty"
    empty.touch()
    on = MYSQL | {"DB_TLS": "true"}
    assert list(faults(**on, DB_TLS_CA=str(empty))) == ["DB_TLS_CA"]
    for certificate, private in ((str(empty), key), (cert, str(empty)), (cert, other_key), (key, cert)):
        found = faults(**on, DB_TLS_CERT=certificate, DB_TLS_KEY=private)
        assert found, (certificate, private)
        assert set(found) <= {"DB_TLS_CERT", "DB_TLS_KEY"}


def test_the_password_is_not_shown() -> None:
    made = settings(**MYSQL, DB_PASSWORD="p'a\"ss\\wörd")
    assert made.database.password == "p'a\"ss\\wörd"
    assert "wörd" not in repr(made.database)
