"""A cluster for the tests of one module, and clients in numbers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clients.swarm import Swarm
from tests.conftest import CLUSTER, required
from tests.server import Server


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Three workers, shared by the tests of one module; without the demo nobody is told of notifications."""
    running = Server.start(tmp_path_factory.mktemp("cluster"), CLUSTER | {"DEMO_ENABLED": "false"})
    try:
        yield running
        running.stop()
    finally:
        running.end()


@pytest.fixture
def swarm() -> Iterator[Swarm]:
    """A Node process for very many socket.io-clients."""
    with Swarm(required("node", "nodejs")) as process:
        yield process
