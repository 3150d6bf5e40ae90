"""Four processes on one socket take equal parts of what comes, and take it fast enough."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from mechamap_rt.system.scoreboard import Scoreboard

CONNECTIONS = 2000
WORKERS = 4
ROOT = Path(__file__).parents[2]


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@contextmanager
def crowd(*, shared: bool = True) -> Iterator[tuple[tuple[str, int], Scoreboard]]:
    """Workers that accept; the address, and what they write of themselves."""
    board = Scoreboard.create(WORKERS)
    with ExitStack() as stack:
        stack.callback(board.close)
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=4096))
        listening.setblocking(False)
        descriptors = board.fd, listening.fileno()
        for slot in range(WORKERS):
            worker = subprocess.Popen(
                [
                    sys.executable,
                    ROOT / "tests/system/crowd.py",
                    *map(str, (board.fd, slot, int(shared))),
                    str(descriptors[1]),
                ],
                stdin=subprocess.PIPE,
                pass_fds=descriptors,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
            assert worker.stdin is not None
            stack.callback(worker.wait, 10)
            stack.callback(worker.stdin.close)
        wait_for(lambda: sum(board.accepting.tolist()) == WORKERS)
        yield listening.getsockname(), board


@pytest.fixture(autouse=True)
def descriptors() -> None:
    """Room for the clients' ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, CONNECTIONS + 1000), hard), hard))


def one_by_one(address: tuple[str, int]) -> Counter[int]:
    found: Counter[int] = Counter()
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):
            client = stack.enter_context(socket.create_connection(address))
            found[int(client.recv(16))] += 1
    return found


async def _at_once(address: tuple[str, int], leave: bool) -> Counter[int]:
    found: Counter[int] = Counter()
    places = asyncio.Semaphore(200)
    kept = []

    async def client() -> None:
        async with places:
            reader, writer = await asyncio.open_connection(*address)
            found[int(await reader.readline())] += 1
            if leave:
                writer.write(b"bye")
                await reader.read()
                writer.close()
            else:
                kept.append(writer)

    await asyncio.gather(*(client() for _ in range(CONNECTIONS)))
    for writer in kept:
        writer.close()
    return found


def at_once(address: tuple[str, int]) -> Counter[int]:
    return asyncio.run(_at_once(address, leave=False))


@pytest.mark.parametrize("clients", [one_by_one, at_once])
def test_every_worker_has_about_its_share(clients: Callable[[tuple[str, int]], Counter[int]]) -> None:
    with crowd() as (address, board):
        found = clients(address)
        share = CONNECTIONS / WORKERS
        assert sum(found.values()) == CONNECTIONS
        assert all(0.75 * share <= found[slot] <= 1.25 * share for slot in range(WORKERS)), found
        wait_for(lambda: sum(board.connections.tolist()) == 0)


def test_connections_that_come_and_go_are_not_held_up() -> None:
    """A quarter of the rate of Twisted's own ports would be a bug; it is about as high."""
    rates = []
    for shared in (False, True):
        with crowd(shared=shared) as (address, board):
            began = time.perf_counter()
            found = asyncio.run(_at_once(address, leave=True))
            rates.append(CONNECTIONS / (time.perf_counter() - began))
            assert sum(found.values()) == CONNECTIONS
            wait_for(lambda board=board: sum(board.connections.tolist()) == 0)
    assert rates[1] > rates[0] / 4, rates
