"""The check of what is installed: what it finds, and that there is nothing to find here."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
ADVISORY = """
[[advisory]]
id = "CVE-2026-32597"
package = "pyjwt"
affected = ">=2.1,<2.12.0"
fixed = "2.12.0"
text = "Unknown critical extensions were accepted."
reviewed = 2026-11-28
"""
MADE = f"# Made by `make constraints` with Python {sys.version_info[0]}.{sys.version_info[1]}\n"


def _script() -> Any:
    """The script as a module; its name has no ending."""
    path = str(ROOT / "scripts/check-dependencies")
    spec = spec_from_loader("check_dependencies", SourceFileLoader("check_dependencies", path))
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules["check_dependencies"] = module
    spec.loader.exec_module(module)
    return module


check = _script()


@pytest.mark.parametrize("version", ["2.1", "2.10.1", "2.11.0"])
def test_a_version_in_the_range_of_an_advisory_is_found(version: str) -> None:
    (fault,) = check.vulnerable(check.read_advisories(ADVISORY), {"pyjwt": Version(version)}, "installed")
    assert fault.startswith(f"pyjwt {version} is installed: CVE-2026-32597, fixed in 2.12.0.")


@pytest.mark.parametrize(
    "versions", [{"pyjwt": Version("2.12.0")}, {"pyjwt": Version("2.0.1")}, {"other": Version("2.10")}]
)
def test_others_are_not(versions: dict[str, Version]) -> None:
    assert list(check.vulnerable(check.read_advisories(ADVISORY), versions, "installed")) == []


def test_a_bound_that_lets_a_vulnerable_version_in() -> None:
    advisories = check.read_advisories(ADVISORY)
    (fault,) = check.too_low(advisories, [Requirement("PyJWT>=2.10"), Requirement("other>=1")])
    assert fault.startswith("pyjwt 2.10 is let in by setup.cfg: CVE-2026-32597")
    assert list(check.too_low(advisories, [Requirement("pyjwt>=2.12")])) == []


def test_pins_are_complete_and_what_is_installed() -> None:
    constraints = check.read_constraints(MADE + "a==1.0\nB_c==2.0  # why\nleft.over==3\n")
    installed = {"a": Version("1.0"), "b-c": Version("2.1"), "d": Version("4")}
    assert list(check.unpinned(constraints, ["a", "b-c", "d"], installed)) == [
        "b-c 2.1 is installed, and constraints.txt pins 2.0",
        "d has no pin in constraints.txt: make constraints",
        "left-over is pinned in constraints.txt, and nothing needs it: make constraints",
    ]
    # made with another Python, it may have more and less
    other = check.read_constraints("# Made by `make constraints` with Python 3.2\na==1.0\nleft.over==3\n")
    assert list(check.unpinned(other, ["a", "d"], installed)) == []


def test_pins_for_other_pythons_do_not_count() -> None:
    constraints = check.read_constraints('a==1.0 ; python_version < "3.5"\na==2.0 ; python_version >= "3.5"\n')
    assert constraints.pins == {"a": Version("2.0")}


@pytest.mark.parametrize("line", ["a", "a>=1", "a==1.*", "a==1,!=2"])
def test_a_pin_is_one_exact_version(line: str) -> None:
    with pytest.raises(ValueError, match="is not one exact version"):
        check.read_constraints(line)


def test_bounds_hold() -> None:
    bounds = [Requirement("a>=1.5"), Requirement("b[x]>=1"), Requirement("c")]
    versions = {"a": Version("1.4"), "b": Version("1")}
    assert list(check.unmet(bounds, versions, "pinned")) == [
        "a 1.4 is pinned, and setup.cfg asks for >=1.5",
        "c is asked for by setup.cfg, and not pinned",
    ]


@pytest.mark.parametrize(
    ("field", "value", "fault"),
    [
        ("CVE-2026-32597", "CVE-26-1", "is no identifier"),
        ('"pyjwt"', '"PyJWT"', "the package is pyjwt"),
        ('fixed = "2.12.0"', 'fixed = "2.11.0"', "is in the range"),
    ],
)
def test_an_entry_that_cannot_be_meant_so(field: str, value: str, fault: str) -> None:
    assert any(fault in each for each in check.malformed(check.read_advisories(ADVISORY.replace(field, value))))
    assert list(check.malformed(check.read_advisories(ADVISORY))) == []
    assert "is there twice" in next(check.malformed(check.read_advisories(ADVISORY * 2)))


def test_nothing_is_found_here_and_no_network_is_needed() -> None:
    nowhere = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9")
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts/check-dependencies")],
        env=os.environ | nowhere,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "none is known to be vulnerable" in done.stdout


def test_constraints_name_no_address() -> None:
    assert "://" not in (ROOT / "constraints.txt").read_text()


def _audit(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """``make audit`` with something in the place of pip-audit."""
    stand_in = folder / "pip-audit"
    stand_in.write_text("#!/bin/sh\n" + script)
    stand_in.chmod(0o755)
    return subprocess.run(
        [str(ROOT / "scripts/audit")],
        env=os.environ | {"PIP_AUDIT": str(stand_in)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_an_audit_that_cannot_ask_says_so(tmp_path: Path) -> None:
    done = _audit(tmp_path, "echo 'ERROR:pip_audit._cli:Connection refused: could not connect' >&2; exit 1\n")
    assert done.returncode == 2
    assert "The database of advisories cannot be reached" in done.stderr
    done = _audit(tmp_path, "echo 'Found 1 known vulnerability in 1 package' >&2; echo pyjwt; exit 1\n")
    assert (done.returncode, done.stdout) == (1, "pyjwt\n")
    assert "cannot be reached" not in done.stderr
    done = _audit(tmp_path, 'echo "$@"\n')
    assert done.returncode == 0
    assert "--requirement constraints.txt --no-deps --disable-pip" in done.stdout
