"""What happens in the middle of something else: a death in a reload, a reload in a crash loop, a stop in either."""

from __future__ import annotations

import signal
import subprocess
import time

import pytest

from tests.chaos.bystanders import Bystanders
from tests.chaos.conftest import StartCluster
from tests.chaos.processes import (
    Harm,
    Operation,
    belonging,
    kill,
    status,
    stopped,
    wait_for_workers,
    wait_until_gone,
    workers,
)
from tests.clients.waiting import until
from tests.server import Server


def generations(server: Server) -> list[int]:
    return [each["generation"] for each in status(server)["workers"]]


def held(server: Server, expected: list[int], seconds: float) -> bool:
    """Are these the generations of the workers, and do they stay so?"""
    until(lambda: generations(server) == expected, lambda: f"generations {generations(server)}", 5)
    late = time.monotonic() + seconds
    while time.monotonic() < late:
        if generations(server) != expected:
            return False
        time.sleep(0.05)
    return True


def test_an_old_worker_killed_while_the_new_ones_start_is_not_replaced_by_an_old_one(
    start: StartCluster, bystanders: Bystanders, harm: Harm
) -> None:
    server = start(2, PYTHONPATH=str(harm.folder))
    bystanders.join(server, 10)
    harm.slow_start(1, each=True)
    pid = next(iter(workers(server).values()))
    reload = Operation(server, "reload")
    reload.progress("Starting")
    kill(pid)
    assert reload.result()["new"]
    assert held(server, [2, 2], 0.5), generations(server)
    bystanders.wait_all_live()


def test_a_new_worker_killed_before_the_others_are_there_is_replaced(start: StartCluster, harm: Harm) -> None:
    server = start(2, PYTHONPATH=str(harm.folder))
    old = set(workers(server).values())
    harm.slow_start(1.2)
    reload = Operation(server, "reload")
    until(lambda: len(workers(server)) == 3, lambda: str(status(server)["workers"]))
    (pid,) = set(workers(server).values()) - old
    kill(pid)
    answer = reload.answer()
    # either the reload has failed, and the old ones go on, or there are two new ones
    expected = [2, 2] if answer["ok"] else [1, 1]
    assert held(server, expected, 0.5), (answer, generations(server))


def test_a_replacement_that_was_put_off_until_a_reload_is_under_way_is_not_too_many(
    start: StartCluster, harm: Harm
) -> None:
    server = start(2, PYTHONPATH=str(harm.folder))
    harm.let_starts_fail()
    kill(next(iter(workers(server).values())))
    until(lambda: "started in 2 s" in server.output(), server.output, 12)
    harm.let_starts_work()
    harm.slow_start(2.2, each=True)
    assert Operation(server, "reload").result()["new"]
    assert held(server, [2, 2], 0.5), generations(server)


def test_a_worker_killed_while_it_lets_its_clients_go_holds_up_nothing(
    start: StartCluster, bystanders: Bystanders
) -> None:
    server = start(2)
    bystanders.join(server, 20)
    publishing = bystanders.publish_steadily(server)
    pid = next(iter(workers(server).values()))
    reload = Operation(server, "reload", drain=3)
    reload.progress("let theirs go")
    began = time.monotonic()
    kill(pid)
    assert reload.result()["new"]
    assert time.monotonic() - began < 3 * 2 + 2
    bystanders.wait_all_live()
    bystanders.stop(publishing)
    bystanders.settle()
    assert len(bystanders.failed()) <= 3
    assert generations(server) == [2, 2]
    assert status(server)["restarts"] == 0


def test_a_worker_killed_while_it_starts_is_started_again(start: StartCluster, harm: Harm) -> None:
    server = start(2, PYTHONPATH=str(harm.folder))
    harm.slow_start(20)
    kill(next(iter(workers(server).values())))
    until(lambda: harm.held_back() > 0, server.output)
    kill(harm.held_back())
    wait_for_workers(server, 2, limit=5)
    assert status(server)["restarts"] == 2


@pytest.mark.parametrize("moment", ["Starting", "let theirs go"])
def test_a_stop_in_the_middle_of_a_reload_ends_everybody(start: StartCluster, harm: Harm, moment: str) -> None:
    server = start(3, PYTHONPATH=str(harm.folder))
    with Bystanders() as bystanders:
        bystanders.join(server, 12)
        reload = Operation(server, "reload", drain=10)
        reload.progress(moment)
        took = server.stop()
        print(f"stopped in {took:.2f} s")
        assert belonging(server) == []
        reload.answer()


def test_a_stop_while_the_workers_start_is_no_failed_start(start: StartCluster, harm: Harm) -> None:
    server = start(1, PYTHONPATH=str(harm.folder))
    again = Server(server.folder, server.settings | {"PORT": "0", "CONTROL_SOCKET": str(server.folder / "2.sock")})
    harm.slow_start(1.5, each=True)
    try:
        until(lambda: len(belonging(again)) == 2, again.output)
        again.signal(signal.SIGTERM)
        wait_until_gone(again)
        assert again._process.wait(1) in (0, -signal.SIGTERM), again.output()
        assert "cannot start" not in again.output()
        assert "Traceback" not in again.output()
    finally:
        again.end()


def test_a_reload_while_a_worker_cannot_start_fails_and_changes_nothing(
    start: StartCluster, bystanders: Bystanders, harm: Harm
) -> None:
    server = start(2, PYTHONPATH=str(harm.folder))
    bystanders.join(server, 12)
    publishing = bystanders.publish_steadily(server)
    before = workers(server)
    harm.let_starts_fail()
    for _ in range(2):
        assert Operation(server, "reload").answer()["error"]["code"] == "FAILED"
    assert workers(server) == before
    bystanders.stop(publishing)
    bystanders.settle()
    assert bystanders.disturbed(bystanders.clients) == []
    assert bystanders.failed() == []


def test_two_reloads_at_once_are_one(start: StartCluster) -> None:
    server = start(2)
    reload = Operation(server, "reload")
    assert Operation(server, "reload").answer()["error"]["code"] == "BUSY"
    assert reload.result()["new"]
    assert subprocess.run(["kill", "-HUP", str(server.pid)], check=True).returncode == 0
    until(lambda: status(server)["reloads"] == 2, server.output)


def test_a_stop_does_not_wait_for_a_worker_that_hangs(start: StartCluster) -> None:
    server = start(2)
    with stopped(next(iter(workers(server).values()))):
        server.stop()
        assert belonging(server) == []


def test_a_reload_while_a_worker_hangs_replaces_it_too(start: StartCluster, bystanders: Bystanders) -> None:
    server = start(2, HEALTH_CHECK_TIMEOUT="1000")
    bystanders.join(server, 12)
    publishing = bystanders.publish_steadily(server)
    node, pid = next(iter(workers(server).items()))
    others = [client for client in bystanders.clients if client.node != node]
    with stopped(pid):
        assert Operation(server, "reload").result()["new"]
    assert held(server, [2, 2], 0.5), generations(server)
    bystanders.wait_all_live()
    bystanders.stop(publishing)
    bystanders.settle(others)
    assert len(bystanders.failed()) <= 3
