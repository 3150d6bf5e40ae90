"""Every worker replaced while clients are served: nobody is refused, nothing is lost, everybody comes back."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.accounts import disordered, doubled
from tests.clients.native import NativeClient
from tests.clients.swarm import Swarm
from tests.clients.waiting import until
from tests.cluster import reload
from tests.cluster.reload import Outcome
from tests.conftest import CLUSTER, StartServer
from tests.server import Server, mechamapctl

CLIENTS = 200
RATE = 50.0
CHANNELS = 8
#: Milliseconds within which native clients are told to come back.
RETURN_WITHIN = 2_000


def assert_nothing_went_wrong(outcome: Outcome) -> None:
    """All that is promised to those who were connected."""
    table = "\n".join(f"{name}: {value}" for name, value in outcome.rows())
    assert outcome.failures.failed == [], table
    assert outcome.refused == 0, table
    assert outcome.lost == 0, table
    assert outcome.late == 0, table
    assert outcome.uncounted == 0, table
    assert doubled(outcome.accounts) == 0, table
    assert disordered(outcome.accounts) == 0, table
    assert all(len(account.stays) == 2 for account in outcome.accounts), f"everybody left once\n{table}"
    for account in outcome.accounts:
        first = account.stays[0]
        if account.kind == "native":
            assert first.how == "1012"
            assert first.delay is not None, "a 'reconnect' comes before the close"
            assert 0 <= first.delay <= RETURN_WITHIN
        else:
            assert first.how.startswith("transport close"), first.how
    fresh, kept = outcome.probers
    assert min(fresh.asked, kept.asked) > 50


def test_nothing_is_lost_by_a_reload(start_cluster: StartServer, swarm: Swarm) -> None:
    server = start_cluster()
    before = {each["worker"] for each in server.workers()}
    outcome = reload.run(
        server,
        swarm,
        lambda: server.control("reload", "--drain", "3s", limit=60),
        clients=CLIENTS,
        rate=RATE,
        channels=CHANNELS,
    )
    assert_nothing_went_wrong(outcome)
    assert set(outcome.reloaded["old"]) == before
    assert outcome.reloaded["dismissed"] == CLIENTS
    assert {each["worker"] for each in server.workers()} == set(outcome.reloaded["new"])
    assert {each["generation"] for each in server.workers()} == {2}
    status = server.control("status")
    assert (status["reloads"], status["restarts"]) == (1, 0)


def test_nothing_is_lost_by_a_hangup(start_cluster: StartServer, swarm: Swarm) -> None:
    """SIGHUP is a reload too."""
    server = start_cluster(CLUSTER_DRAIN_TIME="1500")

    def hang_up() -> dict[str, Any]:
        server.signal(signal.SIGHUP)
        until(lambda: server.control("status")["reloads"] == 1, lambda: f"{server.control('status')}", 30)
        return {}

    assert_nothing_went_wrong(reload.run(server, swarm, hang_up, clients=60, rate=RATE, channels=4))


# -- settings --------------------------------------------------------------------------------------


class Configured:
    """A cluster whose limit of events stands in a ``.env``, and whose secrets nobody has set."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / ".env"
        self.write(CLIENT_EVENTS_PER_MINUTE="3")
        unset = dict.fromkeys(("JWT_SECRET", "LARAVEL_API_KEY", "ADMIN_KEY", "CLIENT_EVENTS_PER_MINUTE"))
        self.server = Server.start(folder, CLUSTER | {"CLUSTER_DRAIN_TIME": "200"} | unset)
        # the demo users' tokens, printed at the start, are the only ones that the made-up secret has signed
        until(lambda: len(self._printed()) == 3, self.server.output)
        self.tokens = self._printed()

    def _printed(self) -> list[str]:
        return re.findall(r"^ +(eyJ\S+)$", self.server.output(), re.MULTILINE)

    def write(self, **settings: str) -> None:
        self._file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))

    def accepted(self, user: int, count: int = 8) -> int:
        """How many of so many events of a demo user are taken."""
        with NativeClient.open(self.server.ws_url, header=self.tokens[user - 1]) as client:
            client.greeted()
            answers = [client.ask(type="unsubscribe", id=number, channel="public.x") for number in range(count)]
        return sum(answer["type"] == "reply" for answer in answers)


@pytest.fixture
def configured(tmp_path: Path) -> Iterator[Configured]:
    one = Configured(tmp_path)
    try:
        yield one
    finally:
        one.server.end()


def test_a_reload_reads_the_settings_again(configured: Configured) -> None:
    assert configured.accepted(1) == 3
    configured.write(CLIENT_EVENTS_PER_MINUTE="5")
    configured.server.control("reload")
    assert configured.accepted(1) == 5, "the new limit counts, and the token is still good"
    assert configured.accepted(2) == 5


def test_a_reload_with_faulty_settings_changes_nothing(configured: Configured) -> None:
    server = configured.server
    before = [(each["worker"], each["pid"]) for each in server.workers()]
    configured.write(CLIENT_EVENTS_PER_MINUTE="plenty", WS_PING_INTERVAL="soon")
    refusal = server.refusal("reload")
    assert refusal["code"] == "BAD_SETTINGS"
    assert "CLIENT_EVENTS_PER_MINUTE" in refusal["message"]
    assert "WS_PING_INTERVAL" in refusal["message"]
    server.signal(signal.SIGHUP)
    until(lambda: server.output().count("CLIENT_EVENTS_PER_MINUTE") > 0, server.output)
    assert [(each["worker"], each["pid"]) for each in server.workers()] == before
    assert configured.accepted(1) == 3
    status = server.control("status")
    assert (status["reloads"], status["restarts"], status["state"]) == (0, 0, "running")


def test_one_reload_at_a_time(start_cluster: StartServer) -> None:
    server = start_cluster()
    with NativeClient.open(server.ws_url, header=server.token(1)) as client:
        client.greeted()
        first = subprocess.Popen(
            mechamapctl(server.control_path, "--json", "reload", "--drain", "2s"), stdout=subprocess.PIPE
        )
        until(lambda: server.control("status")["state"] == "reloading", lambda: "it does not begin")
        assert server.refusal("reload")["code"] == "BUSY"
        assert server.refusal("scale", "5")["code"] == "BUSY"
        assert first.communicate(timeout=30)[0]
        assert first.returncode == 0
    assert server.control("status")["reloads"] == 1
    assert len(server.workers()) == 3
