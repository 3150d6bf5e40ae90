"""The files of the manhole's keys: what is in them, and what is wrong with them."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from mechamap_rt.settings import load
from mechamap_rt.settings.describe import masked
from mechamap_rt.settings.shell_keys import (
    LONGEST,
    UnusableKeysError,
    authorized,
    host_key_path,
    private_key,
)
from tests.settings.test_checks import PUBLIC_KEY

BLOB = base64.b64decode(PUBLIC_KEY.split()[1])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.touch(0o600)
    return path


def fault(path: Path) -> str:
    with pytest.raises(UnusableKeysError) as raised:
        authorized(str(path))
    return str(raised.value)


def test_keys_are_read_with_comments_and_without(file: Path) -> None:
    file.write_text(f"# one\n\n{PUBLIC_KEY}\r\n  {PUBLIC_KEY} Trần An <an@example.org>\n")
    assert authorized(str(file)) == {BLOB}
    file.write_bytes(PUBLIC_KEY.encode() + b" \xff\xfe")
    assert authorized(str(file)) == {BLOB}


@pytest.mark.parametrize(
    "line",
    [
        f'from="10.0.0.1" {PUBLIC_KEY}',
        f"restrict {PUBLIC_KEY}",
        "ssh-ed25519",
        "ssh-ed25519 AAAA!",
        "ssh-rsa " + PUBLIC_KEY.split()[1],
        "ssh-dss AAAAB3NzaC1kc3M=",
        "-----BEGIN OPENSSH PRIVATE KEY-----",
        "password",
    ],
)
def test_a_line_that_is_no_key_is_named_by_its_number(file: Path, line: str) -> None:
    file.write_text(f"{PUBLIC_KEY}\n{line}\n")
    text = fault(file)
    assert "line 2" in text
    assert line not in text


@pytest.mark.parametrize("content", ["", "\n\n", "# nothing\n"])
def test_no_key(file: Path, content: str) -> None:
    file.write_text(content)
    assert "at least one public key" in fault(file)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666, 0o777])
def test_who_may_write_it_may_let_himself_in(file: Path, mode: int) -> None:
    file.write_text(PUBLIC_KEY)
    file.chmod(mode)
    assert fault(file) == f"must not be writable for its group or others, and has mode {mode:04o}"
    file.chmod(0o644)
    assert authorized(str(file)) == {BLOB}


def test_what_is_no_file(file: Path) -> None:
    assert fault(file.parent) == "must be the path of a file"
    os.mkfifo(file.with_name("fifo"), 0o600)
    assert fault(file.with_name("fifo")) == "must be the path of a file"
    assert fault(file.with_name("missing")) == "must be the path of a file that exists"
    assert fault(file / "below") == "must be the path of a file that this account may read"
    assert fault(Path("a\0b")) == "must be the path of a file that this account may read"
    file.write_text("#" * (LONGEST + 1))
    assert fault(file) == f"must have at most {LONGEST // 1024} kB"


def test_the_host_key_is_its_owners_only(file: Path) -> None:
    assert private_key(file.with_name("missing")) is None
    file.write_text("key")
    assert private_key(file, os.geteuid()) == b"key"
    with pytest.raises(UnusableKeysError, match="must be a file of the server's account"):
        private_key(file, os.geteuid() + 1)
    for mode in (0o640, 0o604, 0o610):
        file.chmod(mode)
        with pytest.raises(UnusableKeysError, match=f"must be open to its owner only.*{mode:04o}"):
            private_key(file)


def test_where_the_host_key_is(tmp_path: Path) -> None:
    unset, set_ = load({}, None).settings, load({"MANHOLE_HOST_KEY": "/x/key"}, None).settings
    state = {"STATE_DIRECTORY": "/var/lib/mechamap:/other", "RUNTIME_DIRECTORY": str(tmp_path)}
    assert host_key_path(set_, state, 0) == Path("/x/key")
    assert host_key_path(unset, state, 0) == Path("/var/lib/mechamap/manhole_host_key")
    assert host_key_path(unset, {"RUNTIME_DIRECTORY": str(tmp_path)}, 0) == tmp_path / "manhole_host_key"


def test_masked_settings_tell_no_secret() -> None:
    given = {"JWT_SECRET": "one-secret-of-many", "ADMIN_KEY_PREVIOUS": "first-old-one,second-old-one", "PORT": "4711"}
    settings = load(given, None).settings
    hidden = masked(settings)
    assert (hidden.jwt.secret, hidden.admin.previous_keys) == ("(set)", ("(set)", "(set)"))
    assert (hidden.server.port, hidden.redis.password) == (4711, "")
    assert hidden.laravel.api_key == "(set)", "made up in development"
    assert settings.jwt.secret == "one-secret-of-many"
