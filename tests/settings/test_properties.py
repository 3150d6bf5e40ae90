"""Whatever the environment holds: settings, or every fault, and never a secret."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st

from mechamap_rt.settings import CATALOGUE, Loaded, SettingsError, describe, environ_of, load
from mechamap_rt.settings.names import FAMILIES, KNOWN

NAMES = (
    st.sampled_from(sorted(KNOWN)) | st.text(max_size=20) | st.builds(str.__add__, st.sampled_from(FAMILIES), st.text())
)
LIKELY = st.sampled_from(
    [
        "",
        "0",
        "1",
        "-1",
        "2e6",
        "1e999",
        "nan",
        "inf",
        "true",
        "off",
        "auto",
        "none",
        "*",
        "10m",
        "2048M",
        "24h",
        " ",
        "production",
        "development",
        "https://a.vn",
        "http://u:p@[::1",
        "a:1,b:2",
        "10.0.0.0/8",
        "::1",
        "laravel",
        "/",
        ",",
    ]
)
TEXTS = LIKELY | st.text() | st.text(st.characters(codec=None, categories=["Cs", "Cc", "Nd", "P"]), max_size=10)
ENVIRONMENTS = st.dictionaries(NAMES, TEXTS, max_size=25)
SECRET_NAMES = [entry.option.name for entry in CATALOGUE if entry.option.secret]


def outcome(environ: dict[str, str], env_file: Path | None = None) -> Loaded | SettingsError:
    try:
        return load(environ, env_file)
    except SettingsError as error:
        return error


def sentences(found: Loaded | SettingsError) -> list[str]:
    return [*found.warnings, *(map(str, found.faults) if isinstance(found, SettingsError) else ())]


@given(ENVIRONMENTS)
def test_an_environment_is_loaded_or_faulted(environ: dict[str, str]) -> None:
    found = outcome(environ)
    if isinstance(found, Loaded):
        assert len(describe(found.settings)) == len(CATALOGUE)
        again = load(environ_of(found.settings), None).settings
        assert environ_of(again) == environ_of(found.settings)
    else:
        assert found.faults
    for sentence in sentences(found):
        assert sentence.isprintable()
        assert len(sentence) < 10_000


@given(st.sampled_from(SECRET_NAMES), st.from_regex(r"[QXZ]{6,40}", fullmatch=True), st.lists(NAMES, max_size=10))
def test_a_secret_is_never_shown(name: str, secret: str, elsewhere: list[str]) -> None:
    environ = {other: secret for other in elsewhere if other in KNOWN} | {name: secret}
    found = outcome(environ)
    shown = sentences(found)
    if isinstance(found, Loaded):
        lines = [line for line in describe(found.settings) if line.name == name]
        shown += [lines[0].value, repr(found.settings.jwt), repr(found.settings.laravel), repr(found.settings.admin)]
    assert not any(secret in sentence for sentence in shown)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("settings") / ".env"


@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
@profile(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_is_loaded_or_faulted(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert all(sentence.isprintable() for sentence in sentences(outcome({}, path)))
