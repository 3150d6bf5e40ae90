"""``python -m tests.conformance URL``: the suite against any server."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter

from tests.conformance.registry import CASES
from tests.conformance.suite import AT_ONCE, Result, discovered, run
from tests.conformance.target import Target, Violation


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.conformance",
        description="Hold a server to Engine.IO 4 and Socket.IO 5. It must answer the event EVENT, an object with a "
        "timestamp, by the event ANSWER and by an acknowledgement, both with the same timestamp. "
        "Limits on how often one address or user may connect must be off.",
        epilog="Exit status: 0 all passed, 1 some failed, 2 no Engine.IO 4 server there.",
    )
    parser.add_argument("url", help="such as http://127.0.0.1:3000")
    parser.add_argument("--token", help='what the connect packet says: {"token": TOKEN}; without, {} must do')
    parser.add_argument("--path", default="/socket.io/")
    parser.add_argument("--namespace", help="a second one that exists, such as /admin; without, its cases are skipped")
    parser.add_argument("--event", default="ping")
    parser.add_argument("--answer", default="pong")
    parser.add_argument("--revision", action="append", default=[], help="another EIO that the server serves, such as 3")
    parser.add_argument("--connect-timeout", type=float, default=45.0, metavar="SECONDS")
    parser.add_argument("--upgrade-timeout", type=float, default=10.0, metavar="SECONDS")
    parser.add_argument("--limit", type=float, default=4.0, metavar="SECONDS", help="for what should come at once")
    parser.add_argument("--at-once", type=int, default=AT_ONCE, metavar="N", help="cases at a time")
    parser.add_argument("-k", dest="only", default="", metavar="TEXT", help="only cases with this in their names")
    parser.add_argument("--list", action="store_true", help="only list the cases")
    return parser.parse_args()


def show(result: Result) -> None:
    print(f"{result.outcome:8}{result.case.name:52}{result.seconds:7.2f} s", flush=True)
    if result.why:
        print(f"        {result.case.rule}")
        print("".join(f"        > {line}\n" for line in result.why.splitlines()), end="", flush=True)


async def main(options: argparse.Namespace) -> int:
    names = [name for name in CASES if options.only in name]
    if options.list:
        for name in names:
            print(f"{name:52}{CASES[name].rule}")
        return 0
    target = Target(
        options.url.rstrip("/"),
        options.token,
        options.path,
        ("/", options.namespace) if options.namespace else ("/",),
        options.event,
        options.answer,
        connect_timeout=options.connect_timeout,
        upgrade_timeout=options.upgrade_timeout,
        revisions=frozenset(("4", *options.revision)),
        limit=options.limit,
    )
    try:
        target = await discovered(target)
    except Violation as violation:
        print(violation, file=sys.stderr)
        return 2
    results = await run(target, names, options.at_once, show)
    counts = Counter(result.outcome for result in results.values())
    print(f"\n{target.url}: {counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(arguments())))
