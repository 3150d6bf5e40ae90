"""``mechamapctl check-config`` and ``mechamapctl token``."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import jwt
from click.testing import CliRunner, Result

from mechamap_rt.cli import check
from mechamap_rt.cli.main import main

SECRET = "test-jwt-secret-of-at-least-thirty-two-bytes"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def invoke(*arguments: str, **environ: str) -> Result:
    return CliRunner(env=environ).invoke(main, arguments)


def test_values_in_columns() -> None:
    result = invoke("check-config", PORT="4000", JWT_SECRET=SECRET)
    assert result.exit_code == 0
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["setting", "value", "from"] in rows
    assert ["PORT", "4000", "environment"] in rows
    assert ["JWT_SECRET", "(set)", "environment"] in rows
    assert ["ADMIN_KEY", "(generated)", "generated"] in rows
    assert ["DB_PASSWORD", "(not", "set)", "default"] in rows
    assert SECRET not in result.output
    assert "NODE_OPTIONS" not in result.output


def test_a_table_on_a_terminal() -> None:
    stdout = Terminal()
    assert check.run({"HOST": "[::1]", "DB_SQLITE_PATH": "/[red]/cơ-sở"}, None, stdout, io.StringIO()) == 0
    assert "::1" in stdout.getvalue()
    assert "[red]" in stdout.getvalue()


def test_a_stream_without_the_letters() -> None:
    raw = io.BytesIO()
    stdout = io.TextIOWrapper(raw, encoding="ascii")
    assert check.run({"DB_SQLITE_PATH": "/cơ-sở"}, None, stdout, io.StringIO()) == 0
    stdout.flush()
    assert b"/c\\u01a1-s\\u1edf" in raw.getvalue()


def test_every_fault_on_stderr() -> None:
    result = invoke("check-config", PORT="x", WS_PING_TIMEOUT="-1", WS_PINGTIMEOUT="1")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "  PORT: must be a whole number" in result.stderr
    assert "  WS_PING_TIMEOUT: must be" in result.stderr
    assert "warning: WS_PINGTIMEOUT is not a setting" in result.stderr


def test_the_file_in_the_current_directory_or_the_one_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=4000\n")
    (tmp_path / "other").write_text("PORT=5000\n")
    assert "4000" in invoke("check-config").stdout
    assert "5000" in invoke("check-config", "--env-file", "other").stdout
    assert invoke("check-config", "--env-file", "missing").exit_code == 1


def test_json() -> None:
    report = json.loads(invoke("check-config", "--json", PORT="4000", NODE_OPTIONS="x").stdout)
    assert report["ok"] is True
    port = next(line for line in report["settings"] if line["name"] == "PORT")
    assert (port["section"], port["value"], port["source"]) == ("server", "4000", "environment")
    assert report["warnings"] == ["no effect, because there is no Node.js here: NODE_OPTIONS"]

    result = invoke("check-config", "--json", PORT="x")
    report = json.loads(result.stdout)
    assert result.exit_code == 1
    assert report["ok"] is False
    assert report["faults"][0]["name"] == "PORT"
    assert "PORT" in result.stderr


def test_the_meanings() -> None:
    result = invoke("check-config", "--explain", HOST="::")
    rows = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert rows["setting"].endswith("meaning")
    assert rows["HOST"].endswith("The address to listen on; 0.0.0.0 or :: for every interface.")
    assert "NODE_OPTIONS" in rows

    result = invoke("check-config", "--explain", PORT="x")
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    place = next(place for place, line in enumerate(lines) if line.startswith("  PORT: "))
    assert lines[place + 1].startswith("    The TCP port to listen on")


def test_the_meanings_on_a_terminal() -> None:
    stdout = Terminal()
    assert check.run({}, None, stdout, io.StringIO(), explain=True) == 0
    assert "WS_MAX_HTTP_BUFFER_SIZE" in stdout.getvalue()
    assert "meaning" in stdout.getvalue()


def test_usage() -> None:
    assert invoke("check-config", "--nonsense").exit_code == 2
    assert invoke("token").exit_code == 2
    assert invoke("token", "--user", "0").exit_code == 2
    assert invoke("token", "--user", "5", "--expires", "soon").exit_code == 2


def test_a_token() -> None:
    result = invoke("token", "--user", "5", JWT_SECRET=SECRET, JWT_EXPIRES_IN="7d")
    assert result.exit_code == 0
    claims = jwt.decode(result.stdout.strip(), SECRET, algorithms=["HS256"])
    assert claims.pop("exp") - claims["iat"] == 7 * 86400
    assert abs(claims.pop("iat") - time.time()) < 60
    assert claims == {"userId": 5, "role": "member", "permissions": ["receive_notifications"]}


def test_a_token_with_everything() -> None:
    arguments = ["--user", "7", "--role", "admin", "--name", "Nguyễn An", "--expires", "1h"]
    permissions = ["--permission", "broadcast", "--permission", "websocket:connect"]
    result = invoke("token", *arguments, *permissions, JWT_SECRET=SECRET + "-and-much-longer", JWT_ALGORITHM="HS384")
    claims = jwt.decode(result.stdout.strip(), SECRET + "-and-much-longer", algorithms=["HS384"])
    assert claims["exp"] - claims["iat"] == 3600
    assert (claims["role"], claims["name"]) == ("admin", "Nguyễn An")
    assert claims["permissions"] == ["broadcast", "websocket:connect"]


def test_no_token_without_a_secret() -> None:
    result = invoke("token", "--user", "5")
    assert result.exit_code == 1
    assert "JWT_SECRET is not set" in result.stderr
    assert result.stdout == ""


def test_no_token_with_faults() -> None:
    result = invoke("token", "--user", "5", NODE_ENV="production", JWT_SECRET=SECRET)
    assert result.exit_code == 1
    assert "ADMIN_KEY: must be set in production" in result.stderr


def test_a_token_in_json() -> None:
    result = invoke("token", "--user", "5", "--expires", "1h", "--json", JWT_SECRET=SECRET)
    made = json.loads(result.stdout)
    claims = jwt.decode(made["token"], SECRET, algorithms=["HS256"])
    assert (made["user"], made["expires"]) == (5, claims["exp"])


def test_errors_of_a_token_in_json() -> None:
    result = invoke("token", "--user", "5", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"]["code"] == "NO_SECRET"
    result = invoke("--json", "token", "--user", "5", PORT="x")
    assert result.exit_code == 1
    (fault,) = json.loads(result.stdout)["error"]["faults"]
    assert fault["name"] == "PORT"
    assert result.stderr == ""
