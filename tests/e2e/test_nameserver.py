"""No name server answers: the server starts, serves those it can, and stops in time all the same."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.clients.waiting import until
from tests.conftest import CLUSTER
from tests.nameserver import NAME, silent
from tests.server import STOP_LIMIT, Server

DATABASE = {"DB_HOST": NAME, "DB_READ_HOST": f"replica.{NAME}", "DB_NAME": "x", "DB_USER": "x", "DB_PASSWORD": "x"}

#: What each part of the server looks its host up for.
BEHIND = {
    "database": DATABASE,
    "cluster": DATABASE | CLUSTER,
    "redis": {"REDIS_HOST": NAME, "HOST_ID": "one"},
    "site": {"LARAVEL_API_URL": f"http://{NAME}", "AUTH_BACKEND": "laravel"},
}


@pytest.mark.parametrize("behind", BEHIND)
def test_it_starts_and_stops_in_time(tmp_path: Path, behind: str) -> None:
    with silent(tmp_path) as twistd:
        began = time.monotonic()
        server = Server.start(tmp_path, BEHIND[behind], twistd)
        try:
            started = time.monotonic() - began
            token = f"1|{'a' * 48}"
            asked = time.monotonic()
            answer = server.post("/api/test-auth", {}, key=False, Authorization=f"Bearer {token}")
            waited = time.monotonic() - asked
            if behind != "redis":
                assert answer.status_code == 503, answer.text
            if behind in ("database", "cluster"):
                # in the middle of the next probe
                until(lambda: "cannot be resolved" in server.output(), server.output)
                assert server.get("/api/health").json()["database"]["status"] == "down"
            took = server.stop()
        finally:
            server.end()
    print(f"{behind}: started in {started:.1f} s, answered in {waited:.1f} s, stopped in {took:.1f} s")
    # what it takes without a name server that is silent, on a busy machine, and the time for the first answer
    assert started < 12
    assert waited < 8
    assert took < STOP_LIMIT
