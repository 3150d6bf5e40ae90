"""The long run of schemathesis, with another seed each time: ``python -m tests.openapi [EXAMPLES] [SEED]``."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.openapi.runs import SETTINGS, Run, callers
from tests.server import Server

SECONDS = 3600.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.openapi", description=__doc__)
    parser.add_argument("examples", type=int, nargs="?", default=100, help="made up for each endpoint (100)")
    parser.add_argument("seed", type=int, nargs="?", default=random.randrange(2**32))
    asked = parser.parse_args()
    print(f"seed {asked.seed}", flush=True)
    found = 0
    with tempfile.TemporaryDirectory(prefix="schemathesis-") as folder:
        root = Path(folder)
        (root / "server").mkdir()
        server = Server.start(root / "server", SETTINGS)
        try:
            for who, secrets in callers(server).items():
                (root / who).mkdir()
                run = Run(server, secrets, root / who, asked.examples, asked.seed, SECONDS)
                status, printed = run.result()
                print(f"=== {who}: {'something was found' if status else 'nothing was found'}", flush=True)
                if status:
                    found = 1
                    print(printed)
        finally:
            server.end()
    return found


if __name__ == "__main__":
    sys.exit(main())
