"""The load tests against a running server: their figures are those of what happened."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from mechamap_rt.bench.loadtest.outcome import Report
from tests.certificates import Authority
from tests.conftest import StartServer
from tests.load.bench import COMMAND, LIMIT, environment, run
from tests.server import JWT_SECRET, LARAVEL_API_KEY, Server

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "load-report.schema.json"
HOLD = ("--rate", "200", "--hold", "0.5")
WAYS = [
    ("--protocol", "socketio"),
    ("--protocol", "native"),
    ("--transport", "polling"),
]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def connected(server: Server) -> int:
    return int(server.get("/api/health").json()["connections"])


def valid(report: dict[str, Any]) -> None:
    """Is the document what its schema says?"""
    jsonschema.validate(report, json.loads(SCHEMA.read_text()))


def test_the_schema_is_that_of_the_document() -> None:
    """The file is ``msgspec.json.schema(Report)``; a new member needs it written anew."""
    assert json.loads(SCHEMA.read_text()) == msgspec.json.schema(Report)


@pytest.mark.parametrize("way", WAYS, ids=" ".join)
def test_connections_are_opened_authenticated_and_kept(server: Server, tmp_path: Path, way: tuple[str, ...]) -> None:
    done = run(server, "connections", server.url, "--count", "60", *HOLD, *way, folder=tmp_path)
    assert done.status == 0, done.stdout + done.stderr
    assert done.counts == {
        "attempts": 60, "opened": 60, "authenticated": 60, "kept": 60, "refused": 0, "dropped": 0,
    }  # fmt: skip
    valid(done.report)
    latency = done.report["measured"]["latency_ms"]
    assert latency["count"] == 60
    assert 0 < latency["min"] <= latency["p50"] <= latency["p99"] <= latency["max"] < LIMIT * 1000
    assert (done.report["command"], done.report["ended"], done.report["passed"]) == ("connections", "done", True)
    assert "passed" in done.stdout
    until(lambda: connected(server) == 0)


def test_the_servers_process_is_found_and_measured(server: Server, tmp_path: Path) -> None:
    done = run(server, "connections", server.url, "--count", "20", *HOLD, folder=tmp_path)
    usage = done.report["server"]
    assert (usage["pid"], usage["processes"]) == (server.pid, 1)
    assert usage["memory_after_mb"] > 10
    assert 0 < usage["cpu_percent"] < 400


@pytest.mark.parametrize("protocol", ["socketio", "native"])
def test_every_delivery_of_a_fan_out_is_counted_once(server: Server, tmp_path: Path, protocol: str) -> None:
    done = run(
        server, "fanout", server.url, "--subscribers", "30", "--rate", "40", "--seconds", "1.5", "--protocol", protocol,
        folder=tmp_path,
    )  # fmt: skip
    assert done.status == 0, done.stdout + done.stderr
    assert done.counts == {
        "subscribers": 30, "refused": 0, "dropped": 0, "published": 60, "accepted": 60, "expected": 1800,
        "delivered": 1800, "lost": 0, "duplicated": 0, "out of order": 0,
    }  # fmt: skip
    assert done.report["measured"]["latency_ms"]["count"] == 1800
    assert done.report["measured"]["rates"]["published"] == pytest.approx(40, rel=0.2)
    valid(done.report)


def test_a_fan_out_over_a_cluster_arrives_whole(start_server: StartServer, tmp_path: Path) -> None:
    cluster = start_server(CLUSTER_ENABLED="true", CLUSTER_WORKERS="2")
    done = run(
        cluster, "fanout", cluster.url, "--subscribers", "20", "--rate", "50", "--seconds", "1", folder=tmp_path
    )  # fmt: skip
    assert done.counts["delivered"] == done.counts["expected"] == 1000, done.stdout + done.stderr
    assert done.counts["duplicated"] == 0
    assert (done.report["server"]["pid"], done.report["server"]["processes"]) == (cluster.pid, 3)


def test_others_on_the_channel_are_remarked(server: Server, tmp_path: Path) -> None:
    words = [*COMMAND, "fanout", server.url, "--subscribers", "3", "--rate", "2", "--seconds", "50"]
    other = subprocess.Popen(
        words, env=environment(server), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path
    )
    try:
        until(lambda: connected(server) == 3)
        done = run(
            server, "fanout", server.url, "--subscribers", "5", "--rate", "20", "--seconds", "0.5", folder=tmp_path
        )
    finally:
        other.send_signal(signal.SIGINT)
        assert other.wait(LIMIT) == 0
    assert done.counts["delivered"] == done.counts["expected"] == 50
    assert "3 others are subscribed to public.load" in done.advice


@pytest.mark.parametrize("kept", [False, True])
def test_requests_are_counted_like_ab_counts_them(server: Server, tmp_path: Path, kept: bool) -> None:
    words = ("-n", "300", "-c", "10", *(("-k",) if kept else ()))
    done = run(server, "http", f"{server.url}/api/health", *words, folder=tmp_path)
    assert done.status == 0, done.stdout + done.stderr
    assert done.counts["requests"] == done.counts["succeeded"] == done.counts["status 200"] == 300
    assert done.counts["connections"] == (10 if kept else 300)
    assert done.report["measured"]["rates"]["succeeded"] > 1
    valid(done.report)


def test_what_is_not_there_fails_and_is_named(server: Server, tmp_path: Path) -> None:
    done = run(server, "http", f"{server.url}/nothing", "-n", "20", folder=tmp_path)
    assert done.status == 1
    assert done.reasons == {"HTTP 404": 20}
    assert done.counts["status 404"] == done.counts["failed"] == 20
    valid(done.report)


def test_a_missed_limit_is_status_1_and_said(server: Server, tmp_path: Path) -> None:
    url = f"{server.url}/live"
    missed = run(server, "http", url, "-n", "50", "--max-p50", "0.001", "--min-rate", "1", folder=tmp_path)
    assert missed.status == 1
    checks = {each["name"]: each["met"] for each in missed.report["checks"]}
    assert checks == {"p50": False, "failed": True, "rate": True}
    assert "p50 ≤ 0.001 ms" in missed.stdout
    assert "limits missed" in missed.stdout
    assert run(server, "http", url, "-n", "50", "--max-p50", "60000", folder=tmp_path).status == 0


def test_over_tls(start_server: StartServer, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.sign()
    (tmp_path / "cert.pem").write_bytes(certificate)
    (tmp_path / "key.pem").write_bytes(key)
    server = start_server(
        SSL_ENABLED="true", SSL_CERT_PATH=str(tmp_path / "cert.pem"), SSL_KEY_PATH=str(tmp_path / "key.pem")
    )
    url, believe = f"https://localhost:{server.port}", ("--cacert", str(authority.path))
    for way in WAYS:
        done = run(server, "connections", url, "--count", "5", *HOLD, *way, *believe, folder=tmp_path)
        assert done.counts["kept"] == 5, done.stdout + done.stderr
    done = run(
        server, "fanout", url, "--subscribers", "4", "--rate", "20", "--seconds", "0.5", *believe, folder=tmp_path
    )
    assert done.counts["delivered"] == done.counts["expected"] == 40
    refused = run(server, "http", f"{url}/live", "-n", "3", folder=tmp_path)
    assert refused.status == 1
    assert "--cacert" in refused.advice


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_with_the_results_so_far(server: Server, tmp_path: Path, number: signal.Signals) -> None:
    words = ("connections", server.url, "--count", "10000", "--rate", "50", "--json", "-")
    with subprocess.Popen(
        [*COMMAND, *words], env=environment(server), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        until(lambda: connected(server) >= 20)
        running.send_signal(number)
        stdout, stderr = running.communicate(timeout=LIMIT)
    report = json.loads(stdout)
    valid(report)
    assert report["ended"] == "interrupted"
    assert report["measured"]["counts"]["kept"] >= 20
    assert "these are the results until then" in " ".join(stderr.decode().split())
    assert running.returncode == 0
    until(lambda: connected(server) == 0)


def test_it_stops_by_itself_when_its_time_is_up(server: Server, tmp_path: Path) -> None:
    done = run(server, "http", f"{server.url}/live", "-n", "10000000", "--seconds", "1", folder=tmp_path)
    assert done.report["ended"] == "time is up"
    assert 1 <= done.report["seconds"] < 20
    assert done.counts["failed"] == 0


@pytest.mark.parametrize("way", WAYS, ids=" ".join)
def test_who_is_dropped_while_held_is_counted(start_server: StartServer, tmp_path: Path, way: tuple[str, ...]) -> None:
    server = start_server()
    path = tmp_path / "report.json"
    words = ("connections", server.url, "--count", "12", "--rate", "200", "--hold", "600", *way, "--json", str(path))
    with subprocess.Popen(
        [*COMMAND, *words], env=environment(server), cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as running:
        until(lambda: connected(server) == 12)
        server.stop()
        # nobody is left to be held
        assert running.wait(LIMIT) == 1
    report = json.loads(path.read_text())
    counts = report["measured"]["counts"]
    assert (counts["authenticated"], counts["dropped"], counts["kept"]) == (12, 12, 0)
    assert {each["kind"] for each in report["measured"]["failures"]} == {"dropped"}
    if "polling" not in way:
        assert {each["reason"] for each in report["measured"]["failures"]} == {"closed with 1012 service_restart"}


def test_secrets_come_from_files_and_are_never_shown(server: Server, tmp_path: Path) -> None:
    (tmp_path / "jwt").write_text(JWT_SECRET + "\n")
    (tmp_path / "key").write_text(LARAVEL_API_KEY + "\n")
    tokens = tmp_path / "tokens"
    made = subprocess.run(
        [*COMMAND, "tokens", str(tokens), "--users", "4", "--jwt-secret-file", "jwt"],
        cwd=tmp_path, env=environment(None), capture_output=True, text=True, timeout=LIMIT, check=True,
    )  # fmt: skip
    assert (made.stdout, made.stderr, tokens.stat().st_mode & 0o777) == ("", "", 0o600)
    assert len(set(tokens.read_text().split())) == 4
    words = ("--subscribers", "4", "--rate", "20", "--seconds", "0.5", "--key-file", "key")
    for who in (("--jwt-secret-file", "jwt"), ("--token-file", "tokens"), ("--token", tokens.read_text().split()[0])):
        done = run(None, "fanout", server.url, *words, *who, folder=tmp_path)
        assert done.counts["delivered"] == 40, done.stdout + done.stderr
        shown = done.stdout + done.stderr + json.dumps(done.report)
        assert not any(each in shown for each in (JWT_SECRET, LARAVEL_API_KEY, *tokens.read_text().split()))


def test_wrong_secrets_are_named(server: Server, tmp_path: Path) -> None:
    done = run(server, "connections", server.url, "--count", "3", *HOLD, folder=tmp_path, env={"JWT_SECRET": "x" * 40})
    assert done.status == 1
    assert done.counts["refused"] == 3
    assert "JWT_SECRET" in done.advice
    done = run(server, "fanout", server.url, "--seconds", "0.5", folder=tmp_path, env={"LARAVEL_API_KEY": "y" * 40})
    assert done.status == 1
    assert done.reasons.keys() <= {"HTTP 401", "HTTP 429"}
    assert "LARAVEL_API_KEY" in done.advice


def test_a_channel_that_the_users_may_not_have(server: Server, tmp_path: Path) -> None:
    done = run(server, "fanout", server.url, "--channel", "admin.load", "--subscribers", "3", folder=tmp_path)
    assert done.status == 1
    assert done.counts["refused"] == 3
    assert "public.load" in done.advice


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("connections", "http://127.0.0.1:1"), "nobody takes connections"),
        (("connections", "ftp://127.0.0.1"), "no URL of a server"),
        (("http", "http://127.0.0.1:1/"), "nobody takes connections"),
        (("connections", "http://127.0.0.1:1", "--count", "100001"), "100001"),
        (("connections", "http://127.0.0.1:1", "--jwt-secret-file", "/nonexistent"), "cannot be read"),
        (("connections", "http://127.0.0.1:1", "--protocol", "native", "--transport", "polling"), "Socket.IO"),
        (("fanout", "http://127.0.0.1:1", "--rate", "10000", "--seconds", "86400"), "kept track of"),
    ],
)
def test_what_cannot_be_done_is_status_2_and_one_sentence(
    server: Server, tmp_path: Path, words: tuple[str, ...], complaint: str
) -> None:
    done = run(server, *words, folder=tmp_path)
    assert (done.status, done.report) == (2, {})
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
