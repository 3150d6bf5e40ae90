"""``etc/mechamap.env``: what is generated, every setting in it, and a server that starts from it in production."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from mechamap_rt.cli.main import main
from mechamap_rt.settings import CATALOGUE, SettingsError, load
from mechamap_rt.settings.envfile import TO_BE_SET, env_file
from tests.clients.native import NativeClient
from tests.deploying.filled import SECRETS, SHIPPED, filled
from tests.server import SETTINGS, Server, inherited

LINE = re.compile(r"^(#?)([A-Z][A-Z0-9_]*)=(.*)$", re.MULTILINE)
BIN = Path(sys.executable).parent


def test_the_file_is_what_is_generated() -> None:
    assert SHIPPED.read_text("utf-8") == env_file(), "make env-file"
    assert CliRunner().invoke(main, ["env-file"]).stdout == env_file()


def test_every_setting_is_in_it_once() -> None:
    named = [name for _, name, _ in LINE.findall(env_file())]
    assert sorted(named) == sorted(entry.option.name for entry in CATALOGUE if entry.option.effect == "now")
    for entry in CATALOGUE:
        assert entry.option.name in env_file()
    # an explanation broken into lines is one text again
    text = re.sub(r"\s+# ", " ", env_file())
    unexplained = [each.option.name for each in CATALOGUE if each.option.doc not in text]
    assert unexplained == [each.option.name for each in CATALOGUE if each.option.effect == "accepted"]


def test_what_is_set_is_what_a_site_must_think_about() -> None:
    assert [name for hidden, name, _ in LINE.findall(env_file()) if not hidden] == list(TO_BE_SET)
    assert [(name, value) for _, name, value in LINE.findall(env_file()) if name in SECRETS and value] == []


def test_what_is_commented_out_are_the_defaults(tmp_path: Path) -> None:
    """All of them, uncommented: no value changes; what is remarked is that some mean nothing by themselves."""
    path = tmp_path / "mechamap.env"
    text = filled(CORS_ORIGIN="https://www.example.org")
    path.write_text(text)
    as_shipped = load({}, path)
    path.write_text(re.sub(r"^#([A-Z][A-Z0-9_]*=)", r"\1", text, flags=re.MULTILINE))
    uncommented = load({}, path)
    assert uncommented.settings == as_shipped.settings
    assert as_shipped.warnings == ()
    assert [warning for warning in uncommented.warnings if "no effect" not in warning] == []


def test_without_its_secrets_it_starts_nothing() -> None:
    with pytest.raises(SettingsError) as caught:
        load({}, SHIPPED)
    assert {fault.name for fault in caught.value.faults} == set(SECRETS)


@pytest.fixture
def production(tmp_path: Path) -> Iterator[tuple[Server, Path]]:
    """A server in production with nothing but the file, and the file."""
    path = tmp_path / "mechamap.env"
    path.write_text(filled(PORT="0", CORS_ORIGIN="https://www.example.org", CONTROL_SOCKET=str(tmp_path / "socket")))
    start = ["sh", "-c", f"exec '{BIN / 'twistd'}' \"$@\" --env-file '{path}'", "sh"]
    server = Server.start(tmp_path, dict.fromkeys([*SETTINGS, "CONTROL_SOCKET"]), start)
    try:
        yield server, path
        server.stop()
    finally:
        server.end()


def test_a_server_starts_from_it_in_production(production: tuple[Server, Path]) -> None:
    server, path = production

    def ctl(*arguments: str) -> str:
        command = [BIN / "mechamapctl", "--env-file", path, *arguments]
        return subprocess.run(command, env=inherited(), capture_output=True, text=True, check=True, timeout=30).stdout

    assert re.search(r"^NODE_ENV +production +file$", ctl("check-config"), re.MULTILINE)
    assert "a cluster" in ctl("status")
    assert server.get("/api/health").json()["status"] == "healthy"
    # no console, and no page of another site
    assert server.get("/console").status_code == 404
    polling = "/socket.io/?EIO=4&transport=polling"
    assert server.get(polling, Origin="https://elsewhere.example").status_code == 403
    answer = server.get(polling, Origin="https://www.example.org")
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (200, "https://www.example.org")
    with NativeClient.open(server.ws_url, header=ctl("token", "--user", "5").strip()) as client:
        client.greeted()
        client.ask(type="subscribe", id=1, channel="public.news")
        body = {"channel": "public.news", "event": "news", "data": {"text": "Chào"}}
        key = dict(re.findall(r"^([A-Z_]+)=(.*)$", path.read_text(), re.MULTILINE))["LARAVEL_API_KEY"]
        assert server.post("/api/broadcast", body, key=False).status_code == 401
        assert server.post("/api/broadcast", body, key=False, X_WebSocket_API_Key=key).json()["subscriberCount"] == 1
        assert client.event("news")["data"]["text"] == "Chào"
