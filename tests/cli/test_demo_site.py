"""``mechamapctl demo-site``: from an empty database to a server that knows its users."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from mechamap_rt.storage.sqlite import script, statements
from tests.clients.native import NativeClient
from tests.conftest import ConnectNode, StartServer
from tests.mariadb import MariaDB

LIMIT = 30
OWNER = "owner"
PASSWORD = "of the trial"


def demo_site(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("mechamapctl")), *arguments]
    return subprocess.run(command, env=os.environ | environ, capture_output=True, text=True, timeout=LIMIT)


def empty(mariadb: MariaDB, name: str) -> str:
    """A database with nothing in it, and an account that owns it; its address without the password."""
    mariadb.sql(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
    mariadb.sql(f"CREATE OR REPLACE USER {OWNER}@'%' IDENTIFIED BY '{PASSWORD}'")
    mariadb.sql(f"GRANT ALL ON {name}.* TO {OWNER}@'%'")
    return f"mysql://{OWNER}@127.0.0.1:{mariadb.port}/{name}"


def test_a_server_on_a_demo_site(mariadb: MariaDB, start_server: StartServer, connect_node: ConnectNode) -> None:
    """What the command prints is all that is needed."""
    url = empty(mariadb, "trial")
    done = demo_site("--json", "demo-site", "--mysql", url, DB_PASSWORD=PASSWORD)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert [(user["id"], user["role"]) for user in made["users"]] == [(1, "member"), (2, "member"), (3, "moderator")]
    server = start_server(**made["settings"], DB_PASSWORD=PASSWORD)
    with NativeClient.open(server.ws_url, header=made["users"][0]["token"]) as an:
        assert an.greeted()["userId"] == 1
        assert an.ask(type="subscribe", id=1, channel="conversation.1")["event"] == "subscribed"
        assert an.ask(type="subscribe", id=2, channel="forum.2")["code"] == "PERMISSION_DENIED"
    chi = connect_node(server.url, made["users"][2]["token"]).connected()
    assert chi.ask("subscribe", {"channel": "forum.2"})["status"] == "success"


def test_what_people_see(mariadb: MariaDB) -> None:
    done = demo_site("demo-site", "--mysql", empty(mariadb, "shown"), DB_PASSWORD=PASSWORD)
    assert done.returncode == 0, done.stderr
    for text in ("DB_HOST=127.0.0.1", f"DB_PORT={mariadb.port}", "DB_NAME=shown", "1 Nguyễn Văn An (member)", "1|"):
        assert text in done.stdout


def test_a_database_that_is_not_empty_is_left_alone(mariadb: MariaDB) -> None:
    url = empty(mariadb, "taken")
    mariadb.sql("CREATE TABLE taken.precious (id INTEGER)")
    done = demo_site("--json", "demo-site", "--mysql", url, DB_PASSWORD=PASSWORD)
    assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (1, "NOT_EMPTY")
    assert mariadb.sql("SHOW TABLES FROM taken") == [("precious",)]


def test_what_is_wrong_is_said(mariadb: MariaDB) -> None:
    url = empty(mariadb, "closed")
    done = demo_site("--json", "demo-site", "--mysql", url, DB_PASSWORD="another")
    assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (1, "DATABASE")
    assert "another" not in done.stdout + done.stderr
    for wrong in ("http://a@b/c", "mysql://host/database", "mysql://a@b", "mysql://a@b:x/c", "nonsense"):
        done = demo_site("--json", "demo-site", "--mysql", wrong)
        assert (done.returncode, json.loads(done.stdout)["error"]["field"]) == (1, "mysql"), wrong


def test_the_scripts_are_one_statement_each() -> None:
    for name, least in (("schema.mysql.sql", 9), ("schema.sqlite.sql", 9), ("demo.sql", 9)):
        found = statements(script(name))
        assert len(found) >= least
        assert all(one.startswith(("CREATE", "INSERT")) and ";" not in one for one in found)
