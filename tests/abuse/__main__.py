"""``python -m tests.abuse``: every attack in its whole size, and a table of what came of each."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from itertools import groupby
from pathlib import Path

from tests.abuse import crowds, floods, frames, slowness
from tests.abuse.attack import Attack
from tests.abuse.siege import LIMITS, Result, Siege
from tests.chaos.bystanders import Bystanders
from tests.server import Server

ALL = (*slowness.ATTACKS, *crowds.ATTACKS, *frames.ATTACKS, *floods.ATTACKS)
CALM = 2.0
ROW = "{:42} {:>24} {:>9} {:>9} {:>8}  {}"


def besiege(attacks: list[Attack], whole: bool) -> list[Result]:
    """The attacks, one after another, on a server for each choice of settings."""
    results = []
    for settings, some in groupby(attacks, lambda attack: attack.settings):
        with tempfile.TemporaryDirectory(prefix="abuse-") as folder, Bystanders() as bystanders:
            server = Server.start(Path(folder), LIMITS | settings)
            try:
                siege = Siege(server, bystanders)
                for attack in some:
                    siege.calm(CALM)
                    result = siege.suffer(attack, whole)
                    print(row(result), flush=True)
                    results.append(result)
                server.stop()
            finally:
                server.end()
    return results


def row(result: Result) -> str:
    return ROW.format(
        result.attack.name,
        f"{result.size:,} {result.attack.unit}",
        f"{result.before * 1000:.1f} ms",
        f"{result.during * 1000:.1f} ms",
        f"{result.grown / 2**20:.1f} MB",
        "; ".join(result.faults() or ["held"]) + f" ({result.said})",
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.abuse", description=__doc__)
    parser.add_argument("--some", default="", help="only attacks with this in their name")
    parser.add_argument("--small", action="store_true", help="the sizes of make test")
    asked = parser.parse_args()
    began = time.monotonic()
    print(ROW.format("attack", "size", "p99", "under it", "memory", "verdict"))
    results = besiege([attack for attack in ALL if asked.some in attack.name], not asked.small)
    print(f"{time.monotonic() - began:.0f} s")
    return any(result.faults() for result in results)


if __name__ == "__main__":
    sys.exit(main())
