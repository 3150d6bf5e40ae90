"""The picture of a load test: XML, shown by Chromium on light and on dark ground, whatever the figures are."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import msgspec
import pytest

from mechamap_rt.bench.loadtest.latencies import Latencies
from mechamap_rt.bench.loadtest.outcome import Failure, Generator, Limits, Measured, Report
from mechamap_rt.bench.loadtest.picture import draw
from tests.load.bench import COMMAND, LIMIT, environment
from tests.server import Server

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SVG = "{http://www.w3.org/2000/svg}"
ROOT = Path(__file__).resolve().parents[2]


def report(values: list[float], limits: Limits, target: str = "http://127.0.0.1:3000/") -> Report:
    latencies = Latencies()
    for value in values:
        latencies.add(value)
    summary = latencies.summary()
    checks = limits.checks({"p50": summary.p50, "p95": summary.p95, "p99": summary.p99, "failed": 0.0}, bool(values))
    return Report(
        version=1, command="http", target=target, started="2026-11-23T10:30:00Z", seconds=1.0, ended="done", options={},
        measured=Measured(
            counts={"requests": 1000000, "succeeded": len(values)}, rates={}, latency_of="of a request",
            latency_ms=summary, failures=[Failure("failed", "<b>&\"'", 3)], advice=[],
        ),
        generator=Generator(1.0, 0.0), server=None, checks=checks, passed=all(each.met for each in checks),
    )  # fmt: skip


SHAPES = {
    "one value": ([0.004], Limits()),
    "all the same": ([0.004] * 1000, Limits(p99=4.0)),
    "microseconds": ([1e-6 * number for number in range(1, 500)], Limits(p50=0.001)),
    "hours": ([0.001, 3600.0, 20000.0], Limits(p99=50.0)),
    "many": ([0.001 + number / 1e6 for number in range(100_000)], Limits(p50=1.0, p95=200.0, p99=5000.0)),
    "nothing": ([], Limits(p99=5.0)),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_whatever_was_measured_is_drawn_within_the_picture(shape: str) -> None:
    drawn = draw(report(*SHAPES[shape]))
    root = ElementTree.fromstring(drawn)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    places = [
        (float(x), float(y))
        for line in root.iter(f"{SVG}polyline")
        for x, y in (point.split(",") for point in line.attrib["points"].split())
    ]
    places += [(float(each.attrib["x"]), float(each.attrib["y"])) for each in root.iter(f"{SVG}text")]
    places += [(float(each.attrib["x2"]), float(each.attrib["y2"])) for each in root.iter(f"{SVG}line")]
    assert all(0 <= x <= width and 0 <= y <= height for x, y in places)
    assert bool(list(root.iter(f"{SVG}polyline"))) == bool(SHAPES[shape][0])


def test_what_others_chose_is_text_and_no_markup() -> None:
    drawn = draw(report([0.001], Limits(), target='http://127.0.0.1/<script>"&\x07'))
    root = ElementTree.fromstring(drawn)
    assert not list(root.iter(f"{SVG}script"))
    assert "<script>" in "".join(root.itertext())
    assert "http:" not in "".join(each.attrib.get("href", "") for each in root.iter())


@pytest.mark.parametrize("requests", [120, 500, 20_000])
def test_a_real_one_is_seen_in_chromium(server: Server, browser: Browser, tmp_path: Path, requests: int) -> None:
    """On each ground what is written stands out from it, nothing is cut off, and no two texts lie on one another."""
    path = tmp_path / "load.svg"
    subprocess.run(
        [*COMMAND, "http", f"{server.url}/live", "-n", str(requests), "--max-p99", "60000", "--svg", str(path)],
        env=environment(server), cwd=tmp_path, check=True, timeout=LIMIT, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    for scheme, dark in (("light", False), ("dark", True)):
        page = browser.new_page(color_scheme=scheme, viewport={"width": 800, "height": 500})  # type: ignore[arg-type]
        page.goto(path.as_uri())
        found = page.evaluate(
            """() => {
                const parts = (paint) => paint.match(/\\d+/g).slice(0, 3).map(Number);
                const brightness = (paint) => parts(paint).reduce((sum, part) => sum + part, 0) / 3;
                const ground = document.querySelector('.ground');
                const texts = [...document.querySelectorAll('text')];
                const boxes = texts.map((text) => text.getBBox());
                const across = (a, b) => a.x < b.x + b.width && b.x < a.x + a.width
                    && a.y + 3 < b.y + b.height && b.y + 3 < a.y + a.height;
                return {
                    ground: brightness(getComputedStyle(ground).fill),
                    texts: texts.map((text) => brightness(getComputedStyle(text).fill)),
                    out: boxes.filter((box) => box.x < 0 || box.x + box.width > ground.getBBox().width
                        || box.y + box.height > ground.getBBox().height).length,
                    over: boxes.flatMap((a, at) => boxes.slice(at + 1).filter((b) => across(a, b))).length,
                };
            }"""
        )
        page.close()
        assert (found["ground"] < 60) if dark else (found["ground"] > 240)
        assert all(abs(each - found["ground"]) > 70 for each in found["texts"])
        assert (found["out"], found["over"]) == (0, 0)


def test_the_example_in_the_documents_is_such_a_picture() -> None:
    root = ElementTree.parse(ROOT / "docs" / "load.svg").getroot()
    assert root.tag == f"{SVG}svg"
    assert list(root.iter(f"{SVG}polyline"))


def test_reports_can_be_read_again() -> None:
    before = report([0.001, 0.002], Limits(p99=5.0))
    assert msgspec.json.decode(msgspec.json.encode(before), type=Report) == before
