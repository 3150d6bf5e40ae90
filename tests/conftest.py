"""Fixtures for every test: the real server in its own process, and real clients for it.

``server`` is one server per test module; ``start_server(NAME="value")`` starts one with other settings.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from tests import leaks
from tests import server as servers
from tests.clients.node import Node, NodeClient
from tests.mariadb import MariaDB
from tests.server import Server

if TYPE_CHECKING:
    from playwright.sync_api import Browser

StartServer = Callable[..., Server]
ConnectNode = Callable[..., NodeClient]
NewMariaDB = Callable[..., MariaDB]

SHOWN_OUTPUT = 20_000


@pytest.fixture(scope="session", autouse=True)
def no_secret_of_the_session() -> Iterator[None]:
    """What the servers have logged is looked at, whichever fixture ends them: see :mod:`tests.leaks`."""
    yield
    leaks.verify()


@pytest.fixture(scope="module", autouse=True)
def no_secret_of_the_module() -> Iterator[None]:
    yield
    leaks.verify()


@pytest.fixture(autouse=True)
def no_secret_in_a_log() -> Iterator[None]:
    yield
    leaks.verify()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running server with the usual settings (:mod:`tests.server`), shared by the tests of one module."""
    running = Server.start(tmp_path_factory.mktemp("server"))
    try:
        yield running
        running.stop()
    finally:
        running.end()


@pytest.fixture
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """``start_server(NAME="value", …)``: a server with these settings over the usual ones, for this test."""
    started: list[Server] = []

    def start(**settings: str | None) -> Server:
        one = Server.start(tmp_path_factory.mktemp("server"), settings)
        started.append(one)
        return one

    try:
        yield start
    finally:
        for one in started:
            one.end()


#: What makes a server a cluster on its host.
CLUSTER = {"CLUSTER_ENABLED": "true", "CLUSTER_WORKERS": "3"}


@pytest.fixture
def start_cluster(start_server: StartServer) -> StartServer:
    """``start_cluster(workers=3, NAME="value", …)``: as ``start_server``, a master and its workers."""

    def start(workers: int = 3, **settings: str | None) -> Server:
        return start_server(**CLUSTER | {"CLUSTER_WORKERS": str(workers)} | settings)

    return start


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDB]:
    """A MariaDB with the site's tables and the demo rows, for tests that leave it running and add their own rows."""
    one = MariaDB()
    try:
        yield one
    finally:
        one.end()


@pytest.fixture
def new_mariadb() -> Iterator[NewMariaDB]:
    """``new_mariadb("--option", demo=True)``: one of this test's own, to be stopped, frozen and broken."""
    with ExitStack() as stack:

        def start(*options: str, demo: bool = True) -> MariaDB:
            one = MariaDB(*options, demo=demo)
            stack.callback(one.end)
            return one

        yield start


def required(command: str, package: str) -> str:
    """The path of a command that the tests cannot do without; its absence is a failure, never a skip."""
    path = shutil.which(command)
    if path is None:
        pytest.fail(f"{command} is missing; on Debian: apt-get install {package} (or: make test-tools)", pytrace=False)
    return path


@pytest.fixture(scope="session")
def node() -> Iterator[Node]:
    """One Node process that holds any number of socket.io-client clients."""
    process = Node(required("node", "nodejs"))
    try:
        yield process
    finally:
        process.end()


@pytest.fixture
def connect_node(node: Node) -> Iterator[ConnectNode]:
    """``connect_node(url, token, **options)``: a socket.io-client as the site has it, closed at the end.

    ``version=`` picks one of :data:`tests.clients.node.VERSIONS`.
    """
    clients: list[NodeClient] = []

    def connect(url: str, token: str | None, **options: Any) -> NodeClient:
        client = node.connect(url, token, **options)
        clients.append(client)
        return client

    try:
        yield connect
    finally:
        for client in clients:
            client.close()


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of Debian's Chromium."""
    return required("chromium", "chromium")


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """Chromium without a window. Playwright's sync API holds an asyncio loop: not longer than a module."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        try:
            yield launched
        finally:
            launched.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Show what the servers printed beside a failure."""
    report = yield
    if report.failed:
        for one in servers.running:
            report.sections.append((f"output of the server with pid {one.pid}", one.output()[-SHOWN_OUTPUT:]))
    return report
