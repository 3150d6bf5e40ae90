"""Fixtures for what goes wrong: clusters of which nothing is left, bystanders, harm, Redis."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.chaos import processes
from tests.chaos.bystanders import Bystanders
from tests.chaos.processes import Harm
from tests.conftest import CLUSTER
from tests.redis_server import RedisServer
from tests.server import Server

StartCluster = Callable[..., Server]

#: So that a test waits for little.
QUICK = {"CLUSTER_DRAIN_TIME": "500", "GC_INTERVAL": "0"}


@pytest.fixture
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartCluster]:
    """``start(workers=3, NAME="value", …)``: a cluster, of which no process is left afterwards."""
    started: list[Server] = []

    def begin(workers: int = 3, **settings: str) -> Server:
        settings = CLUSTER | QUICK | {"CLUSTER_WORKERS": str(workers)} | settings
        server = Server.start(tmp_path_factory.mktemp("chaos"), settings)
        started.append(server)
        return server

    try:
        yield begin
    finally:
        for server in started:
            processes.end(server)


@pytest.fixture
def bystanders() -> Iterator[Bystanders]:
    with Bystanders() as them:
        yield them


@pytest.fixture
def harm(tmp_path_factory: pytest.TempPathFactory) -> Harm:
    return Harm(tmp_path_factory.mktemp("harm"))


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    server = RedisServer()
    try:
        yield server
    finally:
        server.end()
