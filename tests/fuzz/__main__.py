"""``python -m tests.fuzz codecs|live --seconds N``: the long runs behind ``make fuzz``."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

CORPUS = Path(__file__).with_name("corpus")


def codecs(seconds: int) -> None:
    """Coverage-guided (atheris); what it finds is written to the corpus."""
    import atheris

    with atheris.instrument_imports(include=["mechamap_rt"]):
        from tests.fuzz.codecs import SEEDS, one_input

    work = Path(tempfile.mkdtemp(prefix="fuzz-"))
    for number, seed in enumerate(SEEDS):
        (work / f"seed-{number}").write_bytes(seed)
    options = [f"-max_total_time={seconds}", "-max_len=2048", f"-artifact_prefix={CORPUS}/", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *options, str(work), str(CORPUS)], one_input)
    atheris.Fuzz()


def live(seconds: int) -> None:
    from tests.fuzz.live import run
    from tests.server import Server

    server = Server.start(Path(tempfile.mkdtemp(prefix="fuzz-")))
    try:
        print(json.dumps(run(server, seconds, seed=int(time.time()))))
        server.stop()
    finally:
        server.end()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("what", choices=["codecs", "live"])
    parser.add_argument("--seconds", type=int, default=300)
    options = parser.parse_args()
    {"codecs": codecs, "live": live}[options.what](options.seconds)


if __name__ == "__main__":
    main()
