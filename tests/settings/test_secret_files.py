"""Every secret may come from a file, which is read again at each load."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mechamap_rt.settings import CATALOGUE, SettingsError, describe, environ_of, load
from mechamap_rt.settings.kinds import secret_list
from mechamap_rt.settings.model import Entry

SECRET = [entry for entry in CATALOGUE if entry.option.secret]
#: What is set besides, so that the secret in question is of use.
CONTEXT = {"DB_HOST": "db", "DB_NAME": "n", "DB_USER": "u", "REDIS_SENTINELS": "a:1"}


def test_whatever_is_named_like_a_secret_is_one() -> None:
    named = re.compile(r"(PASSWORD|SECRET|_KEY)(_PREVIOUS)?$")
    likely = {entry.option.name for entry in CATALOGUE if named.search(entry.option.name)}
    # these are paths of files already
    assert likely - {"DB_TLS_KEY", "REDIS_TLS_KEY", "MANHOLE_HOST_KEY"} == {entry.option.name for entry in SECRET}


@pytest.mark.parametrize("entry", SECRET, ids=lambda entry: entry.option.name)
def test_it_is_read_from_its_file_at_each_load(entry: Entry, tmp_path: Path) -> None:
    path, listed = tmp_path / "secret", entry.option.kind is secret_list
    environ = CONTEXT | {f"{entry.option.name}_FILE": str(path)}
    for text in ("6wZ0c-Qt9vB_first", "k3Xo7pLm-second_Z"):
        path.write_text(text + "\n")
        settings = load(environ, None).settings
        assert entry.value_in(settings) == ((text,) if listed else text)
        # and the workers have it, who are not to read the file
        assert environ_of(settings)[entry.option.name] == text
        assert not any(text in line.value for line in describe(settings))
        assert text not in repr(settings)


def test_previous_secrets_are_a_list(tmp_path: Path) -> None:
    path = tmp_path / "previous"
    path.write_text("one of them\n  two of them  \n\nthree,four\n")
    environ = {
        "JWT_SECRET_PREVIOUS_FILE": str(path),
        "ADMIN_KEY_PREVIOUS": " five , six,",
        "LARAVEL_API_KEY_PREVIOUS": " ",
    }
    settings = load(environ, None).settings
    assert settings.jwt.previous_secrets == ("one of them", "two of them", "three", "four")
    assert settings.admin.previous_keys == ("five", "six")
    assert settings.laravel.previous_api_keys == ()
    again = load(environ_of(settings), None).settings
    assert (again.jwt, again.admin) == (settings.jwt, settings.admin)
    path.write_text("\n")
    assert load({"JWT_SECRET_PREVIOUS_FILE": str(path)}, None).settings.jwt.previous_secrets == ()


def test_a_list_has_a_bound_and_no_secret_is_shown() -> None:
    with pytest.raises(SettingsError) as caught:
        load({"ADMIN_KEY_PREVIOUS": ",".join(f"k3Xo7pLm-{number}" for number in range(9)), "PORT": "k3Xo7pLm-4"}, None)
    faults = {fault.name: fault.message for fault in caught.value.faults}
    assert faults["ADMIN_KEY_PREVIOUS"] == "must be 8 secrets at most"
    assert "k3Xo7pLm" not in str(caught.value)
