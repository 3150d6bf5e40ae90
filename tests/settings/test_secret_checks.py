"""Weak, example and shared secrets: refused in production, remarked in development, never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from mechamap_rt.settings import SettingsError, load
from tests.settings.test_checks import PRODUCTION, faulty, warned

GOOD = "w0Qf7Tz-xLk2Vr8uNc5Yb1Mh9Ga4Ejd6"
DEVELOPMENT = PRODUCTION | {"NODE_ENV": "development"}
EXAMPLE, MONOTONOUS = "your-secret-key-your-secret-key-here", "abcabcabcabcabcabcabcabcabcabcabcabc"


@pytest.mark.parametrize("name", ["LARAVEL_API_KEY", "JWT_SECRET", "ADMIN_KEY"])
@pytest.mark.parametrize("weak", [EXAMPLE, MONOTONOUS, "ShortZ7q"])
def test_weak_secrets_stop_production_only(name: str, weak: str) -> None:
    for where in (name, f"{name}_PREVIOUS"):
        assert faulty(**PRODUCTION | {where: weak}) == [where]
        assert faulty(**PRODUCTION | {where: GOOD}) == []
        assert faulty(**DEVELOPMENT | {where: weak}) == []
        assert warned(**DEVELOPMENT | {where: weak}) == [f"{where}:"]
    # one bad among good ones
    assert faulty(**PRODUCTION | {f"{name}_PREVIOUS": f"{GOOD},{weak}"}) == [f"{name}_PREVIOUS"]


def test_every_fault_is_named_at_once_and_no_secret() -> None:
    environ = PRODUCTION | {
        "LARAVEL_API_KEY": "change-me",
        "JWT_SECRET": MONOTONOUS,
        "JWT_SECRET_PREVIOUS": f"{EXAMPLE},tinyZ7q",
        "ADMIN_KEY": MONOTONOUS,
        "DISABLE_AUTH": "true",
        "DEMO_ENABLED": "true",
        "CORS_ORIGIN": "*",
        "CORS_CREDENTIALS": "true",
    }
    with pytest.raises(SettingsError) as caught:
        load(environ, None)
    faults = [(fault.name, fault.message.split(" (")[0]) for fault in caught.value.faults]
    random = "must be made up at random: it"
    assert faults == [
        ("DEMO_ENABLED", "is for development only: must be off or unset in production"),
        ("LARAVEL_API_KEY", "must have at least 16 characters in production"),
        ("LARAVEL_API_KEY", f"{random} is an example, or made of words that examples are made of"),
        ("JWT_SECRET", f"{random} has too few different characters, or repeats itself"),
        ("JWT_SECRET_PREVIOUS", f"{random} is an example, or made of words that examples are made of"),
        ("JWT_SECRET_PREVIOUS", "must have at least 32 characters in production"),
        ("JWT_SECRET_PREVIOUS", f"{random} has too few different characters, or repeats itself"),
        ("CORS_ORIGIN", "must not be * together with CORS_CREDENTIALS in production"),
        ("ADMIN_KEY", f"{random} has too few different characters, or repeats itself"),
        ("ADMIN_KEY", "must not be the same as JWT_SECRET in production"),
        ("DISABLE_AUTH", "is for development only: must be off or unset in production"),
    ]
    said = [str(caught.value), *caught.value.warnings]
    assert not any(secret in line for line in said for secret in ("change-me", MONOTONOUS, EXAMPLE, "tinyZ7q"))


def test_two_roles_have_two_secrets() -> None:
    assert faulty(**PRODUCTION | {"ADMIN_KEY": PRODUCTION["JWT_SECRET"]}) == ["ADMIN_KEY"]
    assert faulty(**PRODUCTION | {"JWT_SECRET": GOOD, "ADMIN_KEY_PREVIOUS": GOOD}) == ["ADMIN_KEY_PREVIOUS"]
    assert faulty(**PRODUCTION | {"JWT_SECRET_PREVIOUS": PRODUCTION["LARAVEL_API_KEY"] * 2}) == ["JWT_SECRET_PREVIOUS"]
    behind = {"DB_HOST": "db", "DB_NAME": "n", "DB_USER": "u", "REDIS_HOST": "redis"}
    assert faulty(**PRODUCTION | behind | {"DB_PASSWORD": GOOD, "JWT_SECRET": GOOD}) == ["JWT_SECRET"]
    # what is behind is others' to decide
    assert faulty(**PRODUCTION | behind | {"DB_PASSWORD": GOOD, "REDIS_PASSWORD": GOOD}) == []
    assert warned(**DEVELOPMENT | {"ADMIN_KEY": PRODUCTION["JWT_SECRET"]}) == ["ADMIN_KEY:"]


def test_passwords_that_are_placeholders_are_remarked_in_every_mode() -> None:
    behind = {"DB_HOST": "db", "DB_NAME": "n", "DB_USER": "u", "REDIS_SENTINELS": "a:1"}
    for mode in (PRODUCTION, DEVELOPMENT):
        for name in ("DB_PASSWORD", "REDIS_PASSWORD", "REDIS_SENTINEL_PASSWORD"):
            assert warned(**mode | behind | {name: "change-me"}) == [name]
            assert warned(**mode | behind | {name: GOOD}) == []


def test_a_previous_secret_that_is_the_current_one() -> None:
    assert warned(**PRODUCTION | {"ADMIN_KEY_PREVIOUS": PRODUCTION["ADMIN_KEY"]}) == ["ADMIN_KEY_PREVIOUS"]


def test_the_shipped_file_of_settings_starts_nothing_by_itself() -> None:
    path = Path(__file__).parents[2] / "etc/mechamap.env"
    with pytest.raises(SettingsError) as caught:
        load({}, path)
    assert {fault.name for fault in caught.value.faults} == {"LARAVEL_API_KEY", "JWT_SECRET", "ADMIN_KEY"}
