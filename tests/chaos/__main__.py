"""The long ones, which print a table: ``python -m tests.chaos reloads [COUNT]``, ``python -m tests.chaos soak [S]``."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from tests.chaos import reloads, soak


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("what", choices=("reloads", "soak"))
    parser.add_argument("amount", type=float, nargs="?", help="reloads (50), or seconds (120)")
    asked = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        if asked.what == "reloads":
            rows = reloads.run(Path(folder), int(asked.amount or 50), clients=60, rate=50, say=True)
            first, middle, last = rows[0], rows[len(rows) // 2], rows[-1]
            print(f"\n{reloads.HEAD}\n{first}\n{middle}\n{last}")
        else:
            soak.run(Path(folder), asked.amount or 120)
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
