"""``docs/deploying.rst``: what it names exists, what it shows can be typed; test_from_zero.py and others run it."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import docutils.core
import pytest

from mechamap_rt.bench.cli import main as bench
from mechamap_rt.cli.main import main as ctl
from mechamap_rt.core.thresholds import THRESHOLDS
from mechamap_rt.settings import load
from mechamap_rt.settings.names import KNOWN
from tests.deploying.document import BLOCKS, PAGE, ROOT
from tests.deploying.filled import filled

TOOLS = {"mechamapctl": ctl, "mechamap-bench": bench}
#: In capitals, and no settings: of shells, systemd, PM2 and the reader.
OTHERS = {"NAME", "TAG", "GRANT", "SIGHUP", "MOCK_"}
LITERAL = re.compile(r"``([^`]+)``")
CONSOLES = {name: block for name, block in BLOCKS.items() if block.language == "console"}


def commands() -> Iterator[list[str]]:
    """Every call of our own commands, in blocks and in the text: its words."""
    lines = [step.command for block in CONSOLES.values() for step in block.steps]
    for line in [*lines, *LITERAL.findall(PAGE)]:
        words = shlex.split(line.split("|")[0].replace("'", "")) if line.startswith(tuple(TOOLS)) else []
        if len(words) > 1:
            yield words


def test_it_is_well_formed() -> None:
    docutils.core.publish_string(PAGE, writer="html", settings_overrides={"report_level": 2, "halt_level": 2})


@pytest.mark.parametrize("name", CONSOLES)
def test_a_shell_reads_every_command(name: str) -> None:
    for step in CONSOLES[name].steps:
        done = subprocess.run(["bash", "-n", "-c", step.command], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), step.command


def test_our_commands_exist_with_their_options() -> None:
    named = 0
    for tool, *words in commands():
        group = TOOLS[tool]
        options = {name for parameter in group.params for name in parameter.opts}
        while words and words[0].startswith("-"):
            assert words[0] in options, f"{tool} {words[0]}"
            words = words[2:]
        assert words, tool
        command = group.commands[words[0]]
        assert isinstance(command, click.Command)
        options = {name for parameter in command.params for name in parameter.opts}
        wrong = [word for word in words[1:] if re.match("--?[a-z]", word) and word not in options]
        assert wrong == [], f"{tool} {words}"
        named += 1
    assert named > 20


def test_every_setting_exists() -> None:
    in_text = {name for text in LITERAL.findall(PAGE) for name in re.findall(r"^([A-Z][A-Z_]+)(?==|$)", text)}
    in_blocks = {
        name for block in BLOCKS.values() for name in re.findall(r"^'?([A-Z][A-Z_]+)=", block.text, re.MULTILINE)
    }
    assert len(in_text | in_blocks) > 40
    assert in_text - KNOWN - OTHERS == set()
    assert in_blocks - KNOWN == set()


def test_every_file_exists() -> None:
    named = {name for name in LITERAL.findall(PAGE) if re.match(r"etc/.", name)}
    named |= {f"etc/{name}" for name in re.findall(r"/share/mechamap-rt/([a-z.-]+)", PAGE)}
    assert "etc/nginx-migration.conf" in named
    for name in [*named, *(f"docs/{link}" for link in re.findall(r"<([a-z]+\.rst)", PAGE))]:
        assert (ROOT / name).is_file(), name


def test_every_section_that_is_linked_to_exists() -> None:
    for page, anchor in re.findall(r"<([a-z]+\.rst)#([a-z-]+)>", PAGE):
        titles = re.findall(r"^(.+)\n[-~=]{4,}$", (ROOT / "docs" / page).read_text("utf-8"), re.MULTILINE)
        assert anchor in {re.sub(r"[^a-z]+", "-", title.lower()) for title in titles}, anchor


def test_thresholds_are_named_as_they_are_and_are_the_guides() -> None:
    rows = dict(re.findall(r"^over (.+?)  +``(\w+)``", PAGE, re.MULTILINE))
    assert set(rows.values()) == set(THRESHOLDS) - {"reactorLag", "errorRate"}
    for text, name in rows.items():
        number = float(re.match(r"[\d.]+", text)[0])  # type: ignore[index]
        scale = 1024**3 if name == "memoryPerWorker" else 1
        assert THRESHOLDS[name].default == number * scale, name


def test_the_old_settings_carry_over(tmp_path: Path) -> None:
    """In production, with nothing to be said but that there is no Node.js."""
    path = tmp_path / "old.env"
    path.write_text(filled(CORS_ORIGIN="https://www.example.org", REDIS_HOST="127.0.0.1") + BLOCKS["old-settings"].text)
    loaded = load({}, path)
    assert loaded.warnings == ("no effect, because there is no Node.js here: NODE_OPTIONS",)
    settings = loaded.settings
    assert settings.ws.max_http_buffer_size == 2_000_000
    assert (settings.ws.ping_interval, settings.ws.ping_timeout, settings.ws.upgrade_timeout) == (15, 30, 5)
    assert (settings.database.connection_limit, settings.database.timeout) == (60, 30)
    assert settings.cluster.memory_limit == 3072 * 1024**2


def test_several_hosts(tmp_path: Path) -> None:
    path = tmp_path / "mechamap.env"
    path.write_text(filled(CORS_ORIGIN="https://www.example.org") + BLOCKS["hosts"].text)
    loaded = load({}, path)
    assert loaded.warnings == ()
    assert (loaded.settings.cluster.host_id, loaded.settings.redis.session_store) == ("aaa", True)
