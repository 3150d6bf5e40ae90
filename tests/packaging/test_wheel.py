"""The wheel, installed where nothing else is: plugin, data files and dependencies must all be in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from mechamap_rt import __version__
from tests.server import Server

ROOT = Path(__file__).parents[2]
#: What a build needs; the tree is copied so that it leaves nothing behind and finds nothing stale.
SOURCES = ("mechamap_rt", "twisted", "etc", "setup.cfg", "pyproject.toml", "MANIFEST.in", "LICENSE", "README.rst")
#: What never belongs in a wheel.
DEBRIS = shutil.ignore_patterns("__pycache__", "*.pyc", "dropin.cache", "*.egg-info", "build")


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command outside this virtualenv's influence; its output."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel, built in an isolated environment with the backend that pyproject.toml names."""
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=DEBRIS)
        elif (ROOT / name).exists():
            shutil.copy2(ROOT / name, source / name)
    target = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--outdir", target, source, cwd=target)
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` directory of a virtualenv that holds the wheel and what it asks for, and nothing else."""
    home = tmp_path_factory.mktemp("venv")
    venv.create(home, with_pip=True)
    run(home / "bin" / "python", "-m", "pip", "install", "--quiet", wheel, cwd=home)
    return home / "bin"


def test_contents(wheel: Path) -> None:
    packaged = set(zipfile.ZipFile(wheel).namelist())
    ours = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "mechamap_rt").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert ours - packaged == set(), "setup.cfg does not list these"
    assert "twisted/plugins/mechamap_rt_plugin.py" in packaged
    assert not [
        name for name in packaged if name.startswith(("tests/", "twisted/__init__", "twisted/plugins/__init__"))
    ]
    assert wheel.name.startswith(f"mechamap_rt-{__version__}-")


def test_twistd_knows_the_plugin(installed: Path, tmp_path: Path) -> None:
    assert " mechamap " in run(installed / "twistd", "--help", cwd=tmp_path)
    assert "mechamap" in run(installed / "twistd", "mechamap", "--help", cwd=tmp_path)


def test_the_files_of_etc(installed: Path) -> None:
    shared = installed.parent / "share" / "mechamap-rt"
    assert {path.name: path.read_bytes() for path in shared.iterdir()} == {
        path.name: path.read_bytes() for path in (ROOT / "etc").iterdir()
    }


def test_commands(installed: Path, tmp_path: Path) -> None:
    assert "check-config" in run(installed / "mechamapctl", "--help", cwd=tmp_path)


def test_nothing_is_missing_or_in_conflict(installed: Path, tmp_path: Path) -> None:
    run(installed / "python", "-m", "pip", "check", cwd=tmp_path)


def test_it_serves_from_a_foreign_directory(installed: Path, tmp_path: Path) -> None:
    server = Server.start(tmp_path, twistd=(str(installed / "twistd"),))
    try:
        assert server.get("/health").status_code == 200
        console = server.get("/console")
        assert console.status_code == 200
        assert console.headers["Content-Type"].startswith("text/html")
        server.stop()
    finally:
        server.end()
