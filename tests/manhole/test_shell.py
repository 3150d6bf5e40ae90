"""What the shell in a process is like, and how it ends."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from pathlib import Path

import pytest

from tests.clients.native import NativeClient
from tests.clients.ssh import LIMIT, Sitting, run, told, way
from tests.clients.waiting import until
from tests.conftest import CLUSTER
from tests.manhole.conftest import WithManhole, manhole
from tests.server import JWT_SECRET, Server, inherited, mechamapctl

CHANNEL = "public.manhole"
#: An expression whose result comes later.
LATE = "from twisted.internet.task import deferLater\ndeferLater(reactor, 0.3, lambda: 'in time')\n"


# -- where ------------------------------------------------------------------------------------------


def test_each_worker_by_its_number(cluster: Server, key: Path) -> None:
    nodes = [row["node"] for row in cluster.workers()]
    assert len(set(nodes)) == 2
    for number, node in enumerate(nodes, 1):
        assert told(cluster, key, str(number), "node.name\n") == f"{node!r}\n"
    assert told(cluster, key, "", "node.name\n") in [f"{node!r}\n" for node in nodes]


def test_the_master(cluster: Server, key: Path) -> None:
    assert told(cluster, key, "master", "import os; os.getpid()\nlen(crew.workers)\n") == f"{cluster.pid}\n2\n"
    table = told(cluster, key, "master", "workers()\n")
    for row in cluster.workers():
        assert row["node"] in table


def test_one_process_by_whatever_name(single: Server, key: Path) -> None:
    for to in ("1", "master", ""):
        assert told(single, key, to, "import os; os.getpid()\n") == f"{single.pid}\n"


def test_a_worker_that_is_not_there(either: Server, key: Path) -> None:
    assert either.refusal("manhole", "99")["code"] == "UNKNOWN_WORKER"
    command = way(either, key)
    done = run([*command[:-1], "w99@127.0.0.1"], "1\n")
    assert (done.returncode, done.stdout) == (1, "")
    assert "There is no worker 99" in done.stderr


def test_mechamapctl_becomes_ssh(either: Server, key: Path) -> None:
    done = run(mechamapctl(either.control_path, "manhole", "1", "-i", str(key)), "40 + 2\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "42\n", "")
    printed = either.mechamapctl("manhole", "1", "-i", str(key), "--print").stdout
    assert printed.startswith("ssh -p ")
    assert run(["sh", "-c", f"{printed.strip()} 'print(40 + 2)'"]).stdout == "42\n"
    found = either.control("manhole", "1")
    assert (found["address"], found["user"]) == ("127.0.0.1", "w1")
    assert either.mechamapctl("manhole", "one").returncode == 2


def test_another_server_in_its_place_is_noticed(cluster: Server, single: Server, key: Path) -> None:
    """mechamapctl knows the key from the control socket, and ssh believes no other."""
    mine, others = (str(each.control("manhole")["port"]) for each in (cluster, single))
    command = [word.replace(mine, others) for word in way(cluster, key)]
    done = run(command, "1\n")
    assert (done.returncode, done.stdout) == (255, "")
    assert "Host key verification failed" in done.stderr


# -- what is there ----------------------------------------------------------------------------------


def test_clients_and_channels(cluster: Server, key: Path) -> None:
    with NativeClient.open(cluster.ws_url, header=cluster.token(7, name="Chi")) as client:
        client.greeted()
        client.ask(type="subscribe", id=1, channel=CHANNEL)
        (row,) = cluster.control("connections")["connections"]
        here, there = str(row["worker"]), str(3 - row["worker"])
        table = told(cluster, key, here, "who()\nchannels()\n")
        assert re.search(rf"^{row['id']} +7 +\S.* native +websocket +127\.0\.0\.1 ", table, re.MULTILINE)
        assert re.search(rf"^{CHANNEL} +1$", table, re.MULTILINE)
        assert "1 connection of 1 user\n" in table
        assert told(cluster, key, there, "who()\n") == "0 connections of 0 users\n"
        assert told(cluster, key, here, "who(8)\n") == "0 connections of 0 users\n"
        assert row["id"] in told(cluster, key, here, "who(user=7, limit=1)\n")
        assert told(cluster, key, here, "channels('other')\n") == "0 channels, 0 subscriptions\n"
        assert told(cluster, key, here, "hub.count('public.manhole')\n") == "1\n"


def test_help_lists_what_is_at_hand(either: Server, key: Path) -> None:
    text = told(either, key, "1", "help()\n")
    for name in ("app", "node", "hub", "engine", "gate", "settings", "reactor"):
        assert re.search(rf"^{name} ", text, re.MULTILINE)
        assert told(either, key, "1", f"print(type({name}).__name__)\n").strip()
    for name in (
        "who(user, limit=20)",
        "channels(match, limit=20)",
        "trace(id, user)",
        "heap(limit=20)",
        "help(about)",
    ):
        assert name in text
    assert "the connections of this process" in told(either, key, "1", "help(who)\n")


def test_secrets_are_masked(either: Server, key: Path) -> None:
    text = told(either, key, "1", "settings\nsettings.jwt.secret\nsettings.laravel\nvars\nsettings.server.port\n")
    assert "(set)" in text
    assert JWT_SECRET not in text
    assert text.endswith("\n0\n")


def test_the_heap_grows(single: Server, key: Path) -> None:
    def row(typed: str) -> list[str]:
        text = told(single, key, "1", typed)
        (found,) = re.findall(r"^__manhole__\.Grown .*$", text, re.MULTILINE)
        return found.split()[1:]

    told(single, key, "1", "heap(1)\n")
    kept = "class Grown: pass\n\napp.grown = [Grown() for _ in range(50_000)]\nheap(100)\n"
    objects, more, *_ = row(kept)
    assert (objects, more) == ("50,000", "+50,000")
    objects, more, *_ = row("heap(100)\n")
    assert (objects, more) == ("50,000", "+0")
    told(single, key, "1", "del app.grown\n")


def test_the_story_of_a_publication(either: Server, key: Path) -> None:
    with NativeClient.open(either.ws_url, header=either.token(7, name="Chi")) as client:
        client.greeted()
        client.ask(type="subscribe", id=1, channel=CHANNEL)
        ident = either.control("publish", CHANNEL, "note")["id"]
        client.event("note")
        text = told(either, key, "1", f"trace({ident!r})\ntrace({ident!r}, user=7)\n")
    assert re.search(rf"^message +{ident}$", text, re.MULTILINE)
    assert re.search(r"^recipients +1$", text, re.MULTILINE)
    assert "User 7: It was written" in text
    unknown = ident[:-1] + ("0" if ident[-1] != "0" else "1")
    assert told(either, key, "1", f"trace({unknown!r})\n") == f"Nothing is remembered of {unknown}.\n"
    done = run(way(either, key, "1", "-T"), "trace('rubbish')\n")
    assert done.returncode == 1
    assert done.stdout.startswith("ValueError: ")


# -- how it is --------------------------------------------------------------------------------------


def test_a_terminal(either: Server, key: Path) -> None:
    with Sitting.begin(either, key, "1") as sitting:
        assert "help() tells what is at hand; Ctrl-D leaves." in sitting.shown
        sitting.type("x = 6\rif x:\r  print(x * 7)\r\r")
        sitting.until("\r\n42\r\n>>> ")
        sitting.type("print('Tr\u1ea7n')\r")
        sitting.until("\r\nTr\u1ea7n\r\n>>> ")
        sitting.type("node.name\x7f\x7f\x7f\x7f" + "worker\x03")
        sitting.until("KeyboardInterrupt")
        sitting.type("'ab' 'c'\r\x1b[A\x1b[Dd\r")
        sitting.until("'abcd'")
        sitting.type("app.census.figures()\r")
        sitting.until("{'connections': 0, 'users': 0}\r\n>>> ")
        sitting.type(LATE.replace("\n", "\r"))
        sitting.until("called back: 'in time'\r\n>>> ")
        # a line that is not empty is not left
        sitting.type("12\x04")
        sitting.until("12\a")
        sitting.type("\r\x04")
        assert sitting.ended() == 0
    assert sitting.shown.rpartition("Connection to")[0].endswith("\r\n\x1b[4l")


def test_what_is_piped_into_a_terminal(either: Server, key: Path) -> None:
    done = run(way(either, key, "1", "-tt"), f"6 * 7\n{LATE}")
    assert done.returncode == 0
    assert ">>> " in done.stdout
    assert "42" in done.stdout
    assert "Deferred #0 called back: 'in time'" in done.stdout


def test_the_size_of_a_terminal(cluster: Server, key: Path) -> None:
    """With a real terminal at the client's side, which is made larger."""
    command = way(cluster, key, "1")
    pid, terminal = pty.fork()
    if not pid:
        os.execvpe(command[0], command, inherited() | {"TERM": "xterm"})
    try:
        shown = b""

        def wait_for(text: bytes) -> None:
            nonlocal shown
            deadline = time.monotonic() + LIMIT
            while text not in shown:
                readable, _, _ = select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))
                assert readable, f"no {text!r} in {shown!r}"
                shown += os.read(terminal, 65536)

        wait_for(b">>> ")
        editors = b"[each for each in gc.get_objects() if isinstance(each, RecvLine)]"
        find = b"import gc\rfrom twisted.conch.recvline import RecvLine\r[(e.width, e.height) for e in %b]\r" % editors
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 43, 132, 0, 0))
        # the screen is drawn anew
        wait_for(b"\x1b[2J")
        os.write(terminal, find)
        wait_for(b"(132, 43)")
        os.write(terminal, b"\x04")
        until(lambda: os.waitpid(pid, os.WNOHANG)[0] == pid, lambda: "ssh is still there", LIMIT)
    finally:
        os.close(terminal)


def test_a_command(either: Server, key: Path) -> None:
    done = run([*way(either, key, "1"), "for n in range(2):\n  print(n)\n\nnode.name"])
    assert (done.returncode, done.stdout.splitlines()[:2]) == (0, ["0", "1"])
    done = run([*way(either, key, "1"), "1/0"])
    assert done.returncode == 1
    assert done.stdout.endswith("ZeroDivisionError: division by zero\n")


def test_what_breaks_in_the_shell_breaks_nothing_else(either: Server, key: Path) -> None:
    pid = either.control("status")["workers"][0]["pid"]
    for statement, said in (
        ("1/0", "ZeroDivisionError"),
        ("x = (", "SyntaxError|was never closed|^$"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("exit()", "^$"),
        ("raise SystemExit(3)", "^$"),
        ("import sys; sys.exit('x')", "^$"),
        ("input()", "standard input"),
        ("breakpoint()", "standard input"),
        ("'\\ud800'; print('\\ud800')", "ud800"),
        ("app.census.channel(1, 2, 3)", "TypeError"),
        ("class Bad:\n  def __repr__(self): raise ValueError('mine')\n\nBad()", "mine"),
    ):
        done = run(way(either, key, "1"), f"{statement}\n")
        assert done.returncode in (0, 1), done
        assert re.search(said, done.stdout), done
    assert told(either, key, "1", "import os; os.getpid()\n") == f"{pid}\n"
    done = run(way(either, key, "1", "-tt"), "\x1b[ZZ\xff\xfe\r1/0\r'Tr\u1ea7\x7fn'\r'ok' + 'ay'\r")
    assert "'okay'" in done.stdout
    assert either.get("/api/health").status_code == 200
    assert "Traceback" not in either.output()


def test_more_output_than_fits_is_cut(either: Server, key: Path) -> None:
    text = told(either, key, "1", "print('x' * 20_000_000)\n'after' + 'wards'\n")
    assert 500_000 < len(text) < 2_000_000
    assert "is lost" in text


# -- how it ends ------------------------------------------------------------------------------------


def test_the_worker_is_replaced(start_with_manhole: WithManhole, key: Path) -> None:
    server = start_with_manhole(2, CLUSTER_DRAIN_TIME="100")
    with Sitting.begin(server, key, "1") as one, Sitting.begin(server, key, "2") as two:
        server.control("restart", "1")
        assert one.ended() == 1
        assert "\x1b[4l\r\nWorker 1 has ended, and this session with it.\r\n" in one.shown
        two.type("6 * 7\r")
        two.until("\r\n42\r\n")
        server.control("reload", "--drain", "0s", limit=60)
        assert two.ended() == 1
        assert "Worker 2 has ended, and this session with it." in two.shown
    assert "Traceback" not in server.output()


def test_the_worker_dies(start_with_manhole: WithManhole, key: Path) -> None:
    server = start_with_manhole(2)
    with Sitting.begin(server, key, "2") as sitting:
        os.kill(server.workers()[1]["pid"], signal.SIGKILL)
        assert sitting.ended() == 1
        assert "Worker 2 has ended, and this session with it." in sitting.shown


def test_a_loop_without_end_costs_the_worker(start_with_manhole: WithManhole, key: Path) -> None:
    server = start_with_manhole(2, HEALTH_CHECK_TIMEOUT="1000")
    with Sitting.begin(server, key, "1") as sitting:
        sitting.type("while True: pass\r\r")
        assert sitting.ended() == 1
        assert "Worker 1 has ended, and this session with it." in sitting.shown
    until(lambda: [row["worker"] for row in server.workers()] == [2, 3], lambda: f"{server.workers()}", 20)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_server_stops(start_with_manhole: WithManhole, key: Path, workers: int) -> None:
    server = start_with_manhole(workers)
    with Sitting.begin(server, key, "1") as sitting:
        server.stop()
        assert sitting.ended() == 1
        assert "The server stops, and this session ends with it." in sitting.shown


def test_a_reload_leaves_the_door_as_it_is(keys: Path, key: Path, tmp_path: Path) -> None:
    """The master listens as it did, and new workers have shells as the old ones had."""
    state, settings = tmp_path / "state", tmp_path / ".env"
    state.mkdir()
    settings.touch()
    given = manhole(keys, tmp_path) | {"MANHOLE_HOST_KEY": None, "STATE_DIRECTORY": str(state)}
    server = Server.start(tmp_path, CLUSTER | {"CLUSTER_WORKERS": "1"} | given)
    try:
        before = server.control("manhole")
        settings.write_text(f"MANHOLE_HOST_KEY={state / 'other'}\n")
        done = server.mechamapctl("reload", "--drain", "0s", limit=60)
        assert "Settings of the manhole have changed: that takes effect with the next restart" in done.stderr
        (row,) = server.workers()
        assert told(server, key, str(row["worker"]), "node.name\n") == f"{row['node']!r}\n"
        assert server.control("manhole") == before
        assert [each.name for each in state.iterdir()] == ["manhole_host_key"]
        server.stop()
    finally:
        server.end()
