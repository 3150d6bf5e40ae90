"""Which secrets can be guessed, and that none is refused that somebody has made up at random."""

from __future__ import annotations

import base64
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechamap_rt.settings.strength import weakness

ROOT = Path(__file__).parents[2]


def _urlsafe(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


#: What generators make of random bytes, and the fewest bytes of which that is a legal secret.
GENERATORS: list[tuple[Callable[[bytes], str], int]] = [
    (_urlsafe, 12),
    (_base64, 11),
    (lambda content: "base64:" + _base64(content), 12),
    (bytes.hex, 8),
    (lambda content: content.hex().upper(), 8),
    (lambda content: content.hex("-", 2), 8),
]


@pytest.mark.parametrize(
    "secret",
    [
        "your-secret-key",
        "YOUR_SECRET_KEY_HERE",
        "your_jwt_secret_key_here_change_in_production",
        "change-me",
        "changeme-changeme-changeme",
        "please-change-this-secret-in-production",
        "secret",
        "secretsecretsecretsecretsecretse",
        "super-secret-jwt-token-with-at-least-32-characters-long",
        "password",
        "Password123456789",
        "passw0rd-passw0rd",
        "mechamap_laravel_api_key",
        "mechamap_websocket_admin_key_2024",
        "mechamap-production-jwt-secret-key-2025",
        "example-example-example",
        "test-secret-key-test-secret-key-test",
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "key-XXXX-XXXX-XXXX-XXXX",
        "<your JWT secret>",
        "<32 random bytes>",
        "${JWT_SECRET}",
        "{{ jwt_secret }}",
        "%JWT_SECRET%",
        "base64:",
        "base64:changeme",
        "base64:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "12345678901234567890123456789012",
        "0123456789abcdef0123456789abcdef",
        "0123456789abcdef",
        "abcdefghijklmnopqrstuvwxyz123456",
        "zyxwvutsrqponmlkjihgfedcba987654",
        "qwertyuiopasdfghjklzxcvbnm",
        "1qaz2wsx3edc4rfv",
        "AbababABABababab",
        "k3X!k3X!k3X!k3X!k3",
        "deadbeefdeadbeefdeadbeefdeadbeef",
        "11112222333344445555",
        "----------------",
        "................................",
        "",
    ],
)
def test_what_can_be_guessed(secret: str) -> None:
    found = weakness(secret)
    assert found is not None
    assert not secret or secret not in found


@pytest.mark.parametrize(
    "secret",
    [
        "8c1f0e9a4b7d2653",
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "Zt5+Qw/x81LmRp0=",
        "VtD4-kq0pYw9_RzLm2sHc7XbN1fEgJ6u",
        "base64:q83vASNFZ4mQqrvM3e7/EjRWeJCrze8BI0VniavN7wE=",
        "mechamap-Zt5+Qw/x81LmRp0=-Hc7XbN1f",
        "$aR7kPq2LmX9vTb4cW",
        "kềnh-bộng-quạt-trần-vẹo-cốt-ngỗng",
        "9c6f5f0e-3d0b-4a53-9b6e-2f7c1d8e4a10",
    ],
)
def test_what_is_made_up(secret: str) -> None:
    assert weakness(secret) is None


# From a seed: bytes of hypothesis' own choice are anything but random.
@given(st.integers(0, 2**64), st.sampled_from(range(len(GENERATORS))), st.integers(0, 64))
def test_nothing_random_is_refused(seed: int, which: int, more: int) -> None:
    make, least = GENERATORS[which]
    secret = make(random.Random(seed).randbytes(least + more))
    assert weakness(secret) is None, secret


def test_no_long_secret_takes_long() -> None:
    assert weakness("ab" * 30_000) is not None
    assert weakness(_base64(random.Random(5).randbytes(45_000))) is None


@given(st.text(max_size=80))
def test_any_text_is_judged(text: str) -> None:
    found = weakness(text)
    assert found is None or found.startswith("must be ")


def test_what_the_documents_show_is_refused() -> None:
    """Whoever copies a line with a secret from what is shipped learns that it is none."""
    setting = re.compile(r"^#?\s*\$?\s*(?:JWT_SECRET|LARAVEL_API_KEY|ADMIN_KEY)=(\S+)", re.MULTILINE)
    for path in (ROOT / "README.rst", ROOT / "etc/mechamap.env", *(ROOT / "docs").glob("*.rst")):
        for shown in setting.findall(path.read_text(encoding="utf-8")):
            assert weakness(shown.strip("`")) is not None, f"{path.name}: {shown}"
