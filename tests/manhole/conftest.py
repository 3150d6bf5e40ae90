"""Keys, and servers with a manhole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.clients import ssh
from tests.conftest import CLUSTER, required
from tests.server import Server

WithManhole = Callable[..., Server]


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with private keys: ``ed25519``, ``rsa`` and ``ecdsa``, which are let in, and ``stranger``."""
    required("ssh", "openssh-client")
    required("ssh-keygen", "openssh-client")
    folder = tmp_path_factory.mktemp("keys")
    made = [ssh.make_key(folder, kind, kind) for kind in ("ed25519", "rsa", "ecdsa")]
    ssh.make_key(folder, "ed25519", "stranger")
    ssh.authorize(folder / "authorized_keys", *made)
    return folder


@pytest.fixture(scope="session")
def key(keys: Path) -> Path:
    """The private key of somebody who is let in."""
    return keys / "ed25519"


def manhole(keys: Path, folder: Path) -> dict[str, str | None]:
    """The settings of a server with a manhole."""
    return {
        "MANHOLE_ENABLED": "true",
        "MANHOLE_PORT": "0",
        "MANHOLE_AUTHORIZED_KEYS": str(keys / "authorized_keys"),
        "MANHOLE_HOST_KEY": str(folder / "host_key"),
        "DEMO_ENABLED": "false",
    }


@pytest.fixture(scope="module")
def cluster(keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two workers, shared by the tests of one module."""
    folder = tmp_path_factory.mktemp("cluster")
    running = Server.start(folder, CLUSTER | {"CLUSTER_WORKERS": "2"} | manhole(keys, folder))
    try:
        yield running
        running.stop()
    finally:
        running.end()


@pytest.fixture(scope="module")
def single(keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One process, shared by the tests of one module."""
    folder = tmp_path_factory.mktemp("single")
    running = Server.start(folder, manhole(keys, folder))
    try:
        yield running
        running.stop()
    finally:
        running.end()


@pytest.fixture(params=["cluster", "single"])
def either(request: pytest.FixtureRequest) -> Server:
    """A cluster, then one process."""
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def start_with_manhole(keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WithManhole]:
    """``start_with_manhole(workers=2, NAME="value")``: a server of this test's own; 0 workers for one process."""
    started: list[Server] = []

    def start(workers: int = 2, **settings: str | None) -> Server:
        folder = tmp_path_factory.mktemp("server")
        many = CLUSTER | {"CLUSTER_WORKERS": str(workers)} if workers else {}
        one = Server.start(folder, manhole(keys, folder) | many | settings)
        started.append(one)
        return one

    try:
        yield start
    finally:
        for one in started:
            one.end()
