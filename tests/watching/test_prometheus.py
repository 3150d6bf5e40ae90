"""``/metrics`` by a real Prometheus: the shipped configuration, the alerts, and every query of the dashboard."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from tests.clients.native import NativeClient
from tests.clients.waiting import until
from tests.conftest import CLUSTER, required
from tests.redis_server import free_port
from tests.server import REQUEST_LIMIT, Server

ETC = Path(__file__).parents[2] / "etc"
SCRIPT = Path(__file__).parents[2] / "scripts" / "make-grafana-dashboard"
DASHBOARD: dict[str, Any] = json.loads((ETC / "grafana-dashboard.json").read_text())
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
#: What Prometheus makes of a histogram or counter, besides the name that the family has.
SUFFIX = re.compile(r"_(bucket|sum|count)$")


def promtool(*arguments: str, given: bytes | None = None) -> str:
    command = [required("promtool", "prometheus"), *arguments]
    done = subprocess.run(command, input=given, capture_output=True, timeout=60)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    return (done.stdout + done.stderr).decode()


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A cluster to which a little of everything has happened."""
    server = Server.start(tmp_path_factory.mktemp("server"), CLUSTER | {"CLUSTER_WORKERS": "2"})
    try:
        with NativeClient.open(server.ws_url, header=server.token(5)) as client:
            client.greeted()
            client.ask(type="subscribe", id=1, channel="public.x")
            client.ask(type="event", id=2, event="user_activity", data={"activity": "x"})
            with NativeClient.open(server.ws_url, header="nonsense") as refused:
                refused.closed()
            with NativeClient.open(server.ws_url, header=server.token(6)) as other:
                other.greeted()
            for _ in range(5):
                server.publish("public.x", "e", {})
            client.until(lambda message: message.get("event") == "e")
            # the master tells its workers once a second how it stands
            until(lambda: "\nmechamap_workers " in exposed(server), lambda: "the master's figures are not there")
            yield server
        server.stop()
    finally:
        server.end()


def exposed(server: Server) -> str:
    return requests.get(f"{server.url}/metrics", timeout=REQUEST_LIMIT).text


def test_the_shipped_files_are_valid() -> None:
    assert "SUCCESS" in promtool("check", "config", str(ETC / "prometheus.yml"))
    assert "SUCCESS" in promtool("check", "rules", str(ETC / "alerts.yml"))
    assert "SUCCESS" in promtool("test", "rules", str(Path(__file__).with_name("alerts_test.yml")))


def test_names_and_units_are_as_they_should_be(busy: Server) -> None:
    promtool("check", "metrics", given=exposed(busy).encode())
    families = {family.name: family for family in text_string_to_metric_families(exposed(busy))}
    assert len(families) > 45
    for family in families.values():
        assert family.name.startswith("mechamap_")
        assert family.documentation.endswith(".")
        of_master = family.name in {f"mechamap_{name}" for name in ("workers", "workers_wanted", "alerts", "reloads")}
        of_master = of_master or family.name == "mechamap_worker_restarts"
        if not of_master:
            workers = {sample.labels["worker"] for sample in family.samples}
            assert len(workers) in (0, 1, 2)


def test_figures_add_up(busy: Server) -> None:
    families = {family.name: family for family in text_string_to_metric_families(exposed(busy))}

    def total(name: str, **labels: str) -> float:
        return sum(
            sample.value
            for sample in families[name].samples
            if labels.items() <= sample.labels.items() and not sample.name.endswith(("_bucket", "_sum", "_created"))
        )

    assert total("mechamap_connections") == 1
    assert total("mechamap_connections", protocol="native", transport="websocket", role="member") == 1
    assert total("mechamap_connects") == 2
    assert total("mechamap_disconnects") == 1
    assert total("mechamap_refusals", reason="authentication_failed") == 1
    assert total("mechamap_authentications", method="jwt", result="accepted") == 2
    assert total("mechamap_authentications", method="other", result="refused") == 1
    assert total("mechamap_publications", source="api") == 5
    assert total("mechamap_deliveries") >= 5
    assert total("mechamap_publish_latency_seconds") >= 5
    assert total("mechamap_events", event="user_activity") == 1
    assert total("mechamap_workers") == total("mechamap_workers_wanted") == 2
    assert total("mechamap_canary_well") == 2
    # every worker answers for all of them
    seen = {tuple(sorted(set(re.findall(r'worker="(\w+)"', exposed(busy))))) for _ in range(6)}
    assert len(seen) == 1
    assert len(seen.pop()) == 2


def test_what_the_shipped_files_ask_for_is_there(busy: Server) -> None:
    text = exposed(busy)
    there = set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))
    asked = set(re.findall(r"mechamap_\w+", " ".join(QUERIES) + (ETC / "alerts.yml").read_text()))
    missing = {name for name in asked if name not in there and SUFFIX.sub("", name) not in there}
    assert missing - {"mechamap_rt"} <= {name for name in asked if name.startswith("mechamap_bus_lost")}


def test_the_dashboard_is_as_the_script_makes_it(tmp_path: Path) -> None:
    made = tmp_path / "dashboard.json"
    subprocess.run(["python3", str(SCRIPT), str(made)], check=True, timeout=30)
    assert made.read_text() == (ETC / "grafana-dashboard.json").read_text()
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


@pytest.fixture(scope="module")
def prometheus(busy: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Prometheus with the shipped configuration, which scrapes the server; its address."""
    folder = tmp_path_factory.mktemp("prometheus")
    shipped = (ETC / "prometheus.yml").read_text()
    (folder / "alerts.yml").write_text((ETC / "alerts.yml").read_text())
    changed = shipped.replace("127.0.0.1:3000", f"127.0.0.1:{busy.port}").replace("15s", "1s").replace("5s", "1s")
    (folder / "prometheus.yml").write_text(changed)
    port = free_port()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                required("prometheus", "prometheus"),
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: bool(found(url, 'up{job="mechamap"} == 1')), lambda: (folder / "log").read_text()[-2000:], 20)
        # rates need two scrapes
        time.sleep(2.5)
        for _ in range(5):
            busy.publish("public.x", "e", {})
        time.sleep(2.5)
        yield url
    finally:
        process.terminate()
        process.wait(10)


def found(url: str, query: str) -> list[Any]:
    """The result of a query, which must be one."""
    try:
        response = requests.get(f"{url}/api/v1/query", params={"query": query}, timeout=REQUEST_LIMIT)
    except requests.ConnectionError:
        return []
    if response.status_code == 503:
        # it has just been started
        return []
    answer = response.json()
    assert answer["status"] == "success", answer
    result: list[Any] = answer["data"]["result"]
    return result


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_of_the_dashboard_has_an_answer(prometheus: str, query: str) -> None:
    assert found(prometheus, query.replace("$host", ".*")), query


def test_the_rules_are_evaluated(prometheus: str) -> None:
    groups = requests.get(f"{prometheus}/api/v1/rules", timeout=REQUEST_LIMIT).json()["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) == 15
    assert {rule["health"] for rule in rules} <= {"ok", "unknown"}
    assert not [rule["lastError"] for rule in rules if rule.get("lastError")]
