"""From an environment to settings: defaults, sources, secrets, faults, warnings."""

from __future__ import annotations

import dataclasses
from ipaddress import ip_network
from pathlib import Path

import pytest

from mechamap_rt.settings import CATALOGUE, Settings, SettingsError, environ_of, find_env_file, load

SECRETS = {
    "JWT_SECRET": "jwt-secret-of-more-than-thirty-two-characters",
    "LARAVEL_API_KEY": "laravel-key-of-sixteen",
    "ADMIN_KEY": "admin-key-of-sixteen",
}
PRODUCTION = {"NODE_ENV": "production", "CORS_ORIGIN": "https://mechamap.com", **SECRETS}


def faults(environ: dict[str, str], env_file: Path | None = None) -> dict[str, str]:
    with pytest.raises(SettingsError) as caught:
        load(environ, env_file)
    return {fault.name: fault.message for fault in caught.value.faults}


def settings(**environ: str) -> Settings:
    return load(environ, None).settings


class TestDefaults:
    def test_development(self) -> None:
        made = settings()
        assert not made.server.production
        assert made.server.demo
        assert made.cors.origins == ("*",)
        assert made.laravel.broadcast_allow_from == (ip_network("127.0.0.0/8"), ip_network("::1/128"))
        assert made.cluster.memory_limit == 2048 * 1024 * 1024
        assert made.limits.heartbeat_interval is None

    def test_production(self) -> None:
        loaded = load({"NODE_ENV": "production", **SECRETS}, None)
        assert loaded.settings.server.production
        assert not loaded.settings.server.demo
        assert loaded.settings.cors.origins == ()
        assert loaded.settings.generated == frozenset()
        assert any("CORS_ORIGIN is not set" in warning for warning in loaded.warnings)

    def test_missing_secrets_are_made_up_in_development_only(self) -> None:
        first, second = settings(), settings(ADMIN_KEY=SECRETS["ADMIN_KEY"])
        assert first.generated == {"JWT_SECRET", "LARAVEL_API_KEY", "ADMIN_KEY"}
        assert second.generated == {"JWT_SECRET", "LARAVEL_API_KEY"}
        assert second.admin.key == SECRETS["ADMIN_KEY"]
        assert len(first.jwt.secret) >= 32
        assert len({first.jwt.secret, second.jwt.secret, first.laravel.api_key, first.admin.key}) == 4

    def test_the_guide_s_configuration_works_as_written(self) -> None:
        made = load(
            {
                **PRODUCTION,
                "DB_HOST": "127.0.0.1",
                "DB_NAME": "mechamap",
                "DB_USER": "realtime",
                "DB_CONNECTION_LIMIT": "60",
                "DB_TIMEOUT": "30000",
                "DB_READ_HOST": "read-replica.domain.com",
                "DB_WRITE_HOST": "master.domain.com",
                "REDIS_CLUSTER_NODES": "server1:7000,server2:7000,server3:7000",
                "REDIS_SESSION_STORE": "true",
                "REDIS_ADAPTER_ENABLED": "true",
                "WS_PING_TIMEOUT": "30000",
                "WS_PING_INTERVAL": "15000",
                "WS_MAX_HTTP_BUFFER_SIZE": "2e6",
                "WS_UPGRADE_TIMEOUT": "5000",
                "RATE_LIMIT_MAX_REQUESTS": "300",
                "RATE_LIMIT_SKIP_SUCCESSFUL_REQUESTS": "true",
                "NODE_OPTIONS": "--max-old-space-size=2048 --expose-gc",
                "MEMORY_LIMIT": "3072",
                "GC_INTERVAL": "600000",
            },
            None,
        )
        assert made.warnings == (
            "no effect, because there is no Node.js here: NODE_OPTIONS",
            "REDIS_SESSION_STORE has no effect with REDIS_CLUSTER_NODES: each host counts for itself",
        )
        assert made.settings.ws.ping_timeout == 30.0
        assert made.settings.ws.max_http_buffer_size == 2_000_000
        assert made.settings.cluster.memory_limit == 3072 * 2**20
        assert made.settings.database.readers == ("read-replica.domain.com",)
        assert made.settings.database.writer == "master.domain.com"
        assert made.settings.redis.cluster_nodes[2] == ("server3", 7000)
        assert made.settings.redis.configured


class TestSources:
    def test_the_environment_wins_even_when_it_is_empty(self, tmp_path: Path) -> None:
        path = tmp_path / ".env"
        path.write_text("PORT=4000\nDOMAIN=a.vn\nHOST=0.0.0.0\n")
        made = load({"PORT": "5000", "DOMAIN": " "}, path).settings
        assert (made.server.port, made.server.domain, made.server.host) == (5000, "", "0.0.0.0")
        assert (made.sources["PORT"], made.sources["HOST"]) == ("environment", "file")
        assert "DOMAIN" not in made.sources

    def test_nothing_is_interpolated(self, tmp_path: Path) -> None:
        path = tmp_path / ".env"
        path.write_text("export DB_PASSWORD='a${PORT}$b#c'\nREDIS_PASSWORD=x$PORT # note\n")
        made = load({"PORT": "5000"}, path).settings
        assert (made.database.password, made.redis.password) == ("a${PORT}$b#c", "x$PORT")

    def test_a_line_that_is_no_setting_is_told_by_number_only(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = tmp_path / ".env"
        path.write_text("﻿PORT=4000\nJWT_SECRET='not closed\nHOST=::\n", encoding="utf-8")
        loaded = load({}, path)
        assert loaded.settings.server.port == 4000
        assert loaded.settings.server.host == "::"
        assert loaded.warnings[0] == "--env-file: not NAME=value, ignored: line 2"
        assert not caplog.records

    @pytest.mark.parametrize("content", [None, b"PORT=\xff", b"#" * 2_000_000])
    def test_a_file_that_cannot_be_read_is_the_only_fault(self, tmp_path: Path, content: bytes | None) -> None:
        path = tmp_path / "settings"
        if content is not None:
            path.write_bytes(content)
        assert list(faults({"NODE_ENV": "production"}, path)) == ["--env-file"]

    def test_a_directory_is_no_file(self, tmp_path: Path) -> None:
        assert list(faults({}, tmp_path)) == ["--env-file"]
        assert list(faults({}, Path("a\0b"))) == ["--env-file"]

    def test_the_usual_file_is_found(self, tmp_path: Path) -> None:
        assert find_env_file(tmp_path) is None
        (tmp_path / ".env").touch()
        assert find_env_file(tmp_path) == tmp_path / ".env"

    def test_an_alias(self, tmp_path: Path) -> None:
        path = tmp_path / ".env"
        path.write_text("CORS_ORIGIN=https://a.vn\n")
        assert settings(ALLOWED_ORIGINS="https://b.vn").cors.origins == ("https://b.vn",)
        loaded = load({"ALLOWED_ORIGINS": "https://b.vn"}, path)
        assert loaded.settings.cors.origins == ("https://b.vn",)
        assert loaded.warnings == ("CORS_ORIGIN: not used, because ALLOWED_ORIGINS is set to something else",)
        assert list(faults({"ALLOWED_ORIGINS": "b.vn"})) == ["ALLOWED_ORIGINS"]


class TestSecretFiles:
    def test_one_line_break_at_the_end_is_dropped(self, tmp_path: Path) -> None:
        path = tmp_path / "secret"
        path.write_bytes(b" secret \r\n")
        made = settings(DB_PASSWORD_FILE=str(path))
        assert made.database.password == " secret "
        assert made.sources["DB_PASSWORD"] == "environment"

    @pytest.mark.parametrize("content", [None, b"", b"\n", b"secret\xff", b"x" * 70_000])
    def test_a_secret_that_cannot_be_had(self, tmp_path: Path, content: bytes | None) -> None:
        path = tmp_path / "secret-path"
        if content is not None:
            path.write_bytes(content)
        found = faults({**PRODUCTION, "JWT_SECRET": "", "JWT_SECRET_FILE": str(path)})
        assert list(found) == ["JWT_SECRET_FILE"]
        assert "secret-path" not in found["JWT_SECRET_FILE"]

    def test_two_lines_are_no_secret(self, tmp_path: Path) -> None:
        path = tmp_path / "secret"
        path.write_text("first\nsecond\n")
        found = faults({"JWT_SECRET_FILE": str(path)})
        assert "first" not in found["JWT_SECRET_FILE"]

    def test_a_path_that_is_none(self) -> None:
        assert list(faults({"JWT_SECRET_FILE": "a\0b"})) == ["JWT_SECRET_FILE"]

    def test_both_is_a_fault(self, tmp_path: Path) -> None:
        path = tmp_path / "secret"
        path.write_text("secret")
        found = faults({**PRODUCTION, "ADMIN_KEY_FILE": str(path)})
        assert found == {"ADMIN_KEY_FILE": "must not be set together with ADMIN_KEY"}


class TestMessages:
    def test_every_fault_at_once_in_the_order_of_the_settings(self) -> None:
        found = faults({"OUTBOX_SOFT_LIMIT": "2m", "DB_HOST": "db", "PORT": "x", "LOG_MAX_SIZE": "y"})
        assert list(found) == ["PORT", "DB_NAME", "DB_USER", "OUTBOX_HARD_LIMIT", "LOG_MAX_SIZE"]

    def test_a_bad_value_is_escaped_and_cut(self) -> None:
        assert faults({"PORT": "\x1b[31mx"})["PORT"].endswith(", not '\\x1b[31mx'")
        assert faults({"PORT": "x" * 1000})["PORT"].endswith("x'...")
        assert len(faults({"PORT": "\0" * 1000})["PORT"]) < 300

    def test_a_secret_in_the_wrong_place_is_not_shown(self) -> None:
        secret = "correct-horse"
        environ = {"DB_PASSWORD": secret, "PORT": secret, "DB_PORT": f"x{secret}y", "REDIS_PORT": "horse"}
        assert not any("horse" in message for message in faults(environ).values())

    def test_a_secret_given_twice_is_not_shown_elsewhere(self) -> None:
        environ = {"JWT_SECRET": "correct-horse", "JWT_SECRET_FILE": "/nowhere", "PORT": "correct-horse"}
        assert not any("horse" in message for message in faults(environ).values())

    def test_credentials_in_an_address_are_not_shown(self) -> None:
        for name in ("LARAVEL_API_URL", "REDIS_HOST", "REDIS_CLUSTER_NODES", "CORS_ORIGIN"):
            assert "hunter2" not in faults({name: "https://root:hunter2@host:70000,x"})[name]

    def test_repr_shows_no_secret(self, tmp_path: Path) -> None:
        made = settings(**SECRETS, DB_PASSWORD="db-password", REDIS_PASSWORD="redis-password")
        for secret in (*SECRETS.values(), "db-password", "redis-password"):
            assert secret not in repr(made)

    def test_the_error_itself_names_them(self) -> None:
        with pytest.raises(SettingsError, match=r"PORT: must be a whole number from 0 to 65535, not 'x'"):
            load({"PORT": "x"}, None)


class TestWarnings:
    def test_an_unknown_name_of_a_known_family(self) -> None:
        environ = {"WS_PING_TIMOUT": "1", "DB_PASSWD": "1", "JWT_SECRET_FLIE": "x", "SHELL": "/bin/sh", "PROT": "1"}
        assert load(environ, None).warnings == (
            "DB_PASSWD is not a setting of this server; did you mean DB_PASSWORD?",
            "JWT_SECRET_FLIE is not a setting of this server; did you mean JWT_SECRET_FILE?",
            "WS_PING_TIMOUT is not a setting of this server; did you mean WS_PING_TIMEOUT?",
        )

    def test_names_of_others_in_our_families(self, tmp_path: Path) -> None:
        others = ("SSL_CERT_DIR", "SSL_CERT_FILE", "REDIS_SERVICE_HOST", "REDIS_SERVICE_PORT", "DB_PORT_3306_TCP_ADDR")
        assert load(dict.fromkeys(others, "x"), None).warnings == ()
        path = tmp_path / ".env"
        path.write_text("SSL_CERT_FILE=cert.pem\n")
        assert len(load({}, path).warnings) == 1

    def test_in_the_file_a_near_miss_of_any_name(self, tmp_path: Path) -> None:
        path = tmp_path / ".env"
        path.write_text("NODE_EVN=production\nAPP_NAME=MechaMap\n")
        warning = "NODE_EVN is not a setting of this server; did you mean NODE_ENV?"
        assert load({}, path).warnings == (warning,)

    def test_an_unusual_name_is_escaped(self) -> None:
        (warning,) = load({"WS_\x1b[31m" + "x" * 1000: "1"}, None).warnings
        assert "\x1b" not in warning
        assert len(warning) < 200

    def test_names_of_node(self) -> None:
        warnings = load({"UV_THREADPOOL_SIZE": "16", "PM2_USAGE": "CLI", "NODE_OPTIONS": "\x1b"}, None).warnings
        assert warnings == ("no effect, because there is no Node.js here: NODE_OPTIONS, UV_THREADPOOL_SIZE, PM2_USAGE",)

    def test_warnings_come_with_faults_too(self) -> None:
        with pytest.raises(SettingsError) as caught:
            load({"PORT": "x", "WS_PORT": "1"}, None)
        assert caught.value.warnings[0].startswith("WS_PORT is not a setting")


class TestHandingOver:
    def test_a_worker_reads_the_same_settings(self) -> None:
        for environ in ({}, {**PRODUCTION, "TRUST_PROXY": "loopback", "MEMORY_LIMIT": "2000001k", "PORT": "0"}):
            made = load(environ, None).settings
            assert load(environ_of(made), None).settings == made

    def test_settings_cannot_be_changed(self) -> None:
        with pytest.raises(dataclasses.FrozenInstanceError):
            settings().server.port = 1  # type: ignore[misc]


def test_declarations() -> None:
    names = [name for entry in CATALOGUE for name in entry.option.names]
    assert len(names) == len(set(names))
    for section, attribute, option in CATALOGUE:
        assert getattr(getattr(Settings(), section), attribute) == option.default
        assert option.doc.endswith("."), option.name
        assert "\n" not in option.doc
        for value in (option.default, option.default_in(production=False)):
            text = option.kind.format(value)
            assert text == "" or option.kind.parse(text) == value
