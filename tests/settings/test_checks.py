"""What must hold between settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from mechamap_rt.settings import Cluster, SettingsError, load

PRODUCTION = {
    "NODE_ENV": "production",
    "CORS_ORIGIN": "https://mechamap.com",
    "JWT_SECRET": "VtD4-kq0pYw9_RzLm2sHc7XbN1fEgJ6u",
    "LARAVEL_API_KEY": "8c1f0e9a4b7d2653",
    "ADMIN_KEY": "Zt5+Qw/x81LmRp0=",
}
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPOleJJdP6/RLqdhuX+mplHbVVSGgClzTD9i2qil4JJY"


def faulty(**environ: str) -> list[str]:
    """The names that stop the start, in order; empty when nothing does."""
    try:
        load(environ, None)
    except SettingsError as error:
        return [fault.name for fault in error.faults]
    return []


def warned(**environ: str) -> list[str]:
    return [warning.split()[0] for warning in load(environ, None).warnings]


def test_production_needs_its_secrets() -> None:
    assert faulty(**PRODUCTION) == []
    assert faulty(NODE_ENV="production") == ["LARAVEL_API_KEY", "JWT_SECRET", "ADMIN_KEY"]
    for name in ("JWT_SECRET", "LARAVEL_API_KEY", "ADMIN_KEY"):
        assert faulty(**PRODUCTION | {name: PRODUCTION[name][1:]}) == [name]


def test_a_short_secret_is_remarked_in_development() -> None:
    assert warned(JWT_SECRET="VtD4-kq0pYw9") == ["JWT_SECRET:"]


@pytest.mark.parametrize(
    ("name", "on", "off"),
    [
        ("DEMO_ENABLED", "true", "false"),
        ("DISABLE_AUTH", "yes", "no"),
        ("MOCK_USER_ID", "1", ""),
        ("MOCK_USER_ROLE", "admin", ""),
        ("MOCK_LARAVEL_API", "1", "0"),
    ],
)
def test_development_switches_are_refused_in_production(name: str, on: str, off: str) -> None:
    assert faulty(**PRODUCTION | {name: on}) == [name]
    assert faulty(**PRODUCTION | {name: off}) == []
    assert faulty(**{name: on}) == []


def test_sockets_of_systemd_are_named_one_by_one_or_all_together() -> None:
    assert faulty(LISTEN="systemd:a,systemd:1,tcp:127.0.0.1:0") == []
    assert faulty(LISTEN="systemd,unix:/run/x") == []
    assert faulty(LISTEN="systemd,systemd:a") == ["LISTEN"]


def test_a_host_id_is_three_letters_or_digits() -> None:
    assert faulty(HOST_ID="a7z") == []
    for bad in ("ab", "abcd", "ABC", "a-b"):
        assert faulty(HOST_ID=bad) == ["HOST_ID"]


def test_nothing_is_said_about_the_mode_when_it_is_not_known() -> None:
    assert faulty(NODE_ENV="prodution", DISABLE_AUTH="1") == ["NODE_ENV"]


def test_tls_needs_its_files(tmp_path: Path) -> None:
    missing = str(tmp_path / "cert.pem")
    assert faulty(SSL_ENABLED="true") == ["SSL_CERT_PATH", "SSL_KEY_PATH"]
    assert faulty(SSL_ENABLED="true", SSL_CERT_PATH=missing) == ["SSL_CERT_PATH", "SSL_KEY_PATH"]
    assert faulty(SSL_ENABLED="false", SSL_CERT_PATH=missing) == []
    assert faulty(SSL_EXPIRY_WARNING="soon") == ["SSL_EXPIRY_WARNING"]


def test_the_log_is_a_file_that_can_be_written(tmp_path: Path) -> None:
    there = tmp_path / "a.log"
    assert faulty(LOG_FILE=str(there)) == []
    assert not there.exists()
    there.touch()
    assert faulty(LOG_FILE=str(there), LOG_FORMAT="json") == []
    (tmp_path / "link").symlink_to(there)
    for bad in (tmp_path, tmp_path / "link", tmp_path / "missing" / "a.log"):
        assert faulty(LOG_FILE=str(bad), PORT="x") == ["LOG_FILE", "PORT"]
    assert faulty(LOG_FILE=str(there), AUDIT_LOG_FILE=str(there)) == ["LOG_FILE"]
    assert faulty(LOG_FORMAT="xml", LOG_LEVEL="loud") == ["LOG_LEVEL", "LOG_FORMAT"]


def test_the_manhole_needs_keys(tmp_path: Path) -> None:
    keys = tmp_path / "authorized_keys"
    keys.touch()
    assert faulty(MANHOLE_ENABLED="1") == ["MANHOLE_AUTHORIZED_KEYS"]
    assert faulty(MANHOLE_ENABLED="1", MANHOLE_AUTHORIZED_KEYS=str(tmp_path)) == ["MANHOLE_AUTHORIZED_KEYS"]
    assert faulty(MANHOLE_ENABLED="1", MANHOLE_AUTHORIZED_KEYS=str(keys)) == ["MANHOLE_AUTHORIZED_KEYS"], "it is empty"
    keys.write_text(f"# of the operators\n\n{PUBLIC_KEY} an@example.org\n")
    good = {"MANHOLE_ENABLED": "1", "MANHOLE_AUTHORIZED_KEYS": str(keys)}
    assert faulty(**good) == []
    host_key = tmp_path / "host_key"
    assert faulty(**good, MANHOLE_HOST_KEY=str(host_key)) == [], "it will be made"
    host_key.touch(0o600)
    assert faulty(**good, MANHOLE_HOST_KEY=str(host_key)) == []
    host_key.chmod(0o640)
    assert faulty(**good, MANHOLE_HOST_KEY=str(host_key)) == ["MANHOLE_HOST_KEY"]
    assert faulty(MANHOLE_HOST_KEY=str(host_key)) == []
    # workers do not look: the files are the master's
    assert load(good | {"MANHOLE_HOST_KEY": str(host_key)}, None, first=False).settings.manhole.enabled


def test_workers() -> None:
    assert faulty(CLUSTER_WORKERS_MIN="4", CLUSTER_WORKERS_MAX="2") == ["CLUSTER_WORKERS_MIN"]
    assert faulty(CLUSTER_WORKERS="5", CLUSTER_WORKERS_MAX="4") == ["CLUSTER_WORKERS"]
    assert faulty(CLUSTER_WORKERS="1", CLUSTER_WORKERS_MIN="2") == ["CLUSTER_WORKERS"]
    assert faulty(CLUSTER_WORKERS="auto", CLUSTER_WORKERS_MIN="2", CLUSTER_WORKERS_MAX="2") == []
    # A check that needs a faulty value says nothing.
    assert faulty(CLUSTER_WORKERS_MIN="4", CLUSTER_WORKERS_MAX="x") == ["CLUSTER_WORKERS_MAX"]


@pytest.mark.parametrize(
    ("cluster", "expected"),
    [
        (Cluster(), (1, 1, 1)),
        (Cluster(enabled=False, workers=3, workers_max=9), (1, 1, 1)),
        (Cluster(enabled=True), (4, 4, 4)),
        (Cluster(enabled=True, workers=3), (3, 3, 3)),
        (Cluster(enabled=True, workers=3, workers_max=6), (3, 3, 6)),
        (Cluster(enabled=True, workers=3, workers_min=2), (2, 3, 3)),
        (Cluster(enabled=True, workers_max=2), (2, 2, 2)),
        (Cluster(enabled=True, workers_min=6), (6, 6, 6)),
        (Cluster(enabled=True, workers_min=1, workers_max=8), (1, 4, 8)),
    ],
)
def test_worker_range(cluster: Cluster, expected: tuple[int, int, int]) -> None:
    assert cluster.worker_range(4) == expected


def test_outbox() -> None:
    assert faulty(OUTBOX_SOFT_LIMIT="1m") == ["OUTBOX_HARD_LIMIT"]
    assert faulty(OUTBOX_SOFT_LIMIT="1m", OUTBOX_HARD_LIMIT="2m") == []


def test_database() -> None:
    assert faulty(DB_HOST="db") == ["DB_NAME", "DB_USER"]
    assert faulty(DB_HOST="db", DB_NAME="n", DB_USER="u") == []
    assert faulty(DB_READ_HOST="a,b", DB_WRITE_HOST="c") == ["DB_READ_HOST", "DB_WRITE_HOST"]
    assert faulty(DB_HOST="not a host", DB_READ_HOST="a") == ["DB_HOST"]


def test_redis(tmp_path: Path) -> None:
    there, missing = tmp_path / "redis.pem", str(tmp_path / "missing.pem")
    there.touch()
    assert faulty(REDIS_HOST="redis", REDIS_USERNAME="rt") == ["REDIS_PASSWORD"]
    assert faulty(REDIS_HOST="redis", REDIS_USERNAME="rt", REDIS_PASSWORD="x") == []
    assert faulty(REDIS_SENTINELS="a:1", REDIS_CLUSTER_NODES="b:1") == ["REDIS_SENTINELS"]
    tls = {"REDIS_HOST": "redis", "REDIS_TLS": "true"}
    assert faulty(**tls) == []
    assert faulty(**tls, REDIS_TLS_CA=missing) == ["REDIS_TLS_CA"]
    assert faulty(**tls, REDIS_TLS_CERT=str(there)) == ["REDIS_TLS_KEY"]
    assert faulty(**tls, REDIS_TLS_KEY=str(there)) == ["REDIS_TLS_CERT"]
    assert faulty(**tls, REDIS_TLS_CERT=str(there), REDIS_TLS_KEY=missing) == ["REDIS_TLS_KEY"]
    assert faulty(REDIS_TIMEOUT="50") == ["REDIS_TIMEOUT"]
    redis = load(
        {"REDIS_SENTINELS": "a:1,b:2", "REDIS_TIMEOUT": "1500", "REDIS_BUFFER_SIZE": "1m"}, None
    ).settings.redis
    assert redis.configured
    assert (redis.sentinels, redis.timeout, redis.buffer_size) == ((("a", 1), ("b", 2)), 1.5, 1024 * 1024)


def test_the_site_is_needed_to_ask_it() -> None:
    assert faulty(AUTH_BACKEND="laravel", CHANNEL_AUTH="laravel") == ["AUTH_BACKEND", "CHANNEL_AUTH"]
    assert faulty(AUTH_BACKEND="laravel", LARAVEL_API_URL="https://mechamap.com") == []


def test_cors() -> None:
    assert faulty(CORS_ORIGIN="*", CORS_CREDENTIALS="true") == []
    assert warned(CORS_ORIGIN="*", CORS_CREDENTIALS="true") == ["CORS_ORIGIN"]
    assert faulty(**PRODUCTION | {"CORS_ORIGIN": "*"}) == []
    assert faulty(**PRODUCTION | {"CORS_ORIGIN": "*", "CORS_CREDENTIALS": "true"}) == ["CORS_ORIGIN"]


@pytest.mark.parametrize(
    ("environ", "first"),
    [
        ({"CLUSTER_WORKERS": "3"}, ["CLUSTER_WORKERS"]),
        ({"LISTEN": "systemd", "PORT": "3000"}, ["HOST"]),
        ({"LISTEN": "systemd"}, []),
        ({"CLUSTER_WORKERS": "3", "CLUSTER_ENABLED": "true"}, []),
        ({"REDIS_ADAPTER_ENABLED": "true"}, ["REDIS_ADAPTER_ENABLED"]),
        ({"REDIS_ADAPTER_ENABLED": "true", "REDIS_HOST": "redis"}, []),
        ({"REDIS_CLUSTER_NODES": "a:1", "REDIS_DB": "1"}, ["REDIS_DB"]),
        ({"REDIS_ADAPTER_ENABLED": "true", "REDIS_SENTINELS": "a:1"}, []),
        ({"REDIS_TLS_CA": "/ca.pem", "REDIS_TLS_KEY": "/key.pem"}, ["REDIS_TLS_CA", "REDIS_TLS_KEY"]),
        ({"REDIS_HOST": "redis", "REDIS_SENTINEL_PASSWORD": "VtD4-kq0pYw9"}, ["REDIS_SENTINEL_PASSWORD"]),
        ({"LARAVEL_BROADCAST_ALLOW_FROM": "0.0.0.0/0"}, ["LARAVEL_BROADCAST_ALLOW_FROM"]),
    ],
)
def test_remarks(environ: dict[str, str], first: list[str]) -> None:
    assert warned(**environ) == first
