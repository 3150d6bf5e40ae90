"""``python -m tests.abuse``: every attack in its whole size, and a table of what came of each."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.abuse import crowds, floods, frames, slowness
from tests.abuse.attack import Attack
from tests.abuse.siege import LIMITS, Result, Siege
from tests.chaos.bystanders import Bystanders
from tests.server import Server

ALL = (*slowness.ATTACKS, *crowds.ATTACKS, *frames.ATTACKS, *floods.ATTACKS)
CALM = 2.0
ROW = "{:42} {:>24} {:>9} {:>9} {:>8}  {}"


def besiege(attacks: Sequence[Attack], whole: bool) -> int:
    """The attacks, one after another, on a server for each choice of settings; how many were not held off."""
    fallen = 0
    waiting = list(attacks)
    while waiting:
        settings = waiting[0].settings
        with tempfile.TemporaryDirectory(prefix="abuse-") as folder, Bystanders() as bystanders:
            server = Server.start(Path(folder), LIMITS | settings)
            try:
                siege = Siege(server, bystanders)
                while waiting and waiting[0].settings == settings:
                    attack = waiting.pop(0)
                    siege.calm(CALM)
                    result = siege.suffer(attack, whole)
                    fallen += bool(result.faults())
                    print(row(result), flush=True)
                server.stop()
            except AssertionError as error:
                # a server that is not as before: the next attack gets a fresh one
                fallen += 1
                print(ROW.format(attack.name, "", "", "", "", f"fallen: {str(error)[:300]}"), flush=True)
            finally:
                server.end()
    return fallen


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
    fallen = besiege([attack for attack in ALL if asked.some in attack.name], not asked.small)
    print(f"{time.monotonic() - began:.0f} s, {fallen} not held off")
    return int(fallen > 0)


if __name__ == "__main__":
    sys.exit(main())
