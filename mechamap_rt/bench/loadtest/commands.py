"""The commands ``connections``, ``fanout``, ``http`` and ``tokens``: their options, and what becomes of a run.

Exit status: 0 the limits are met, 1 one is missed, 2 it could not be done.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, get_args

import click
import msgspec
from rich.console import Console

from mechamap_rt.bench.generator import raise_descriptor_limit
from mechamap_rt.bench.job import BenchError
from mechamap_rt.bench.loadtest import show
from mechamap_rt.bench.loadtest.accounts import Accounts, secret
from mechamap_rt.bench.loadtest.clients import ProtocolName
from mechamap_rt.bench.loadtest.connections import Connections
from mechamap_rt.bench.loadtest.fanout import Fanout
from mechamap_rt.bench.loadtest.load import Load, perform
from mechamap_rt.bench.loadtest.outcome import Limits, Report
from mechamap_rt.bench.loadtest.picture import draw
from mechamap_rt.bench.loadtest.target import OVERRIDE, aim
from mechamap_rt.bench.loadtest.visits import Requests

F = TypeVar("F", bound=Callable[..., Any])
_FILE = click.Path(dir_okay=False, path_type=Path)
_OUT = click.Path(dir_okay=False, allow_dash=True)
_WIDTH = 110
_MOST_CLIENTS = click.IntRange(1, 100_000)
_RATE = click.FloatRange(0.01, 10_000)
_TIMEOUT = click.FloatRange(0.1, 300)
_MILLISECONDS = click.FloatRange(0, min_open=True)
_PERCENT = click.FloatRange(0, 100)
_LINES_OF_OPTIONS = "\n\nExit status: 0 all limits are met, 1 one is missed, 2 it could not be done."


def _options(*options: Callable[[F], F]) -> Callable[[F], F]:
    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def _limit(name: str, kind: click.FloatRange, help: str, default: float | None = None) -> Callable[[F], F]:
    return click.option(name, type=kind, default=default, show_default=default is not None, help=help)


_COMMON = _options(
    click.option("--timeout", type=_TIMEOUT, default=10.0, show_default=True, help="Seconds one attempt may take."),
    click.option("--pid", type=click.IntRange(1), help="The server's process, if it is not found by itself."),
    click.option("--json", "json_path", type=_OUT, metavar="FILE", help="Write the results as JSON; - for stdout."),
    click.option("--svg", "svg_path", type=_OUT, metavar="FILE", help="Write a picture of the latencies."),
    click.option("--cacert", type=_FILE, help="Certificates to believe (https), instead of the system's."),
    click.option("--insecure", is_flag=True, help="Believe any certificate."),
    click.option(
        OVERRIDE,
        "own",
        is_flag=True,
        help="The host is yours, though it is not this one. Without it every other is refused.",
    ),
    _limit("--max-p50", _MILLISECONDS, "Milliseconds that the median may take."),
    _limit("--max-p95", _MILLISECONDS, "Milliseconds that 95 % may take."),
    _limit("--max-p99", _MILLISECONDS, "Milliseconds that 99 % may take."),
    _limit("--max-failed", _PERCENT, "Percent that may be refused or fail.", 0.0),
)
_CLIENTS = _options(
    click.option("--protocol", type=click.Choice(get_args(ProtocolName)), default="socketio", show_default=True),
    click.option("--token", envvar="LOAD_TOKEN", help="One user's token. Better in the environment: LOAD_TOKEN."),
    click.option("--token-file", type=_FILE, help="Tokens, one a line, of one user each; taken in turns."),
    click.option(
        "--jwt-secret-file", type=_FILE, help="The server's JWT_SECRET, to sign tokens with; or JWT_SECRET[_FILE]."
    ),
    click.option("--users", type=_MOST_CLIENTS, help="Different users to sign for.  [default: one a client]"),
    click.option("--first-user", type=click.IntRange(1), default=1, show_default=True, help="The lowest of their ids."),
    click.option("--role", default="member", show_default=True, help="Of those users, where no database says it."),
)
_MAX_DROPPED = _limit("--max-dropped", _PERCENT, "Percent of those connected that may be lost.", 0.0)


@click.command(epilog=_LINES_OF_OPTIONS)
@click.argument("url")
@click.option("--count", type=_MOST_CLIENTS, default=100, show_default=True, help="Connections to open.")
@click.option("--rate", type=_RATE, default=50.0, show_default=True, help="Connections to begin a second.")
@click.option(
    "--hold", type=click.FloatRange(0, 86_400), default=10.0, show_default=True, help="Seconds to keep them all."
)
@click.option(
    "--transport", type=click.Choice(("websocket", "polling")), default="websocket", show_default=True,
    help="Long polling is Socket.IO's.",
)  # fmt: skip
@_CLIENTS
@_COMMON
@_MAX_DROPPED
def connections(url: str, **options: Any) -> None:
    """How many connections does the server at URL take and keep?

    Opens them at a rate, authenticates each, and holds them. Tells how many were opened, authenticated and kept, how
    long that took, why others were refused, and which limit of the server that was.

    \b
      mechamap-bench connections http://127.0.0.1:3000 --count 500 --jwt-secret-file jwt-secret
    """
    count, polling = options["count"], options["transport"] == "polling"
    if polling and options["protocol"] != "socketio":
        raise click.UsageError("long polling is Socket.IO's: --protocol socketio")

    def load() -> Load:
        _need_descriptors(count * (2 if polling else 1))
        return Connections(
            _accounts(options, count), count=count, rate=options["rate"], hold=options["hold"],
            timeout=options["timeout"], protocol=options["protocol"], polling=polling,
        )  # fmt: skip

    _run(load, url, options)


@click.command(epilog=_LINES_OF_OPTIONS)
@click.argument("url")
@click.option("--subscribers", type=_MOST_CLIENTS, default=50, show_default=True, help="Clients that are subscribed.")
@click.option("--channel", default="public.load", show_default=True, help="That all of them subscribe to.")
@click.option("--rate", type=_RATE, default=5.0, show_default=True, help="Publications a second.")
@click.option("--seconds", type=click.FloatRange(0.1, 86_400), default=10.0, show_default=True, help="To publish for.")
@click.option("--size", type=click.IntRange(0, 1_000_000), default=100, show_default=True, help="Bytes of each, about.")
@click.option("--key", help="The backend's key. Better in a file, or the environment: LARAVEL_API_KEY[_FILE].")
@click.option("--key-file", type=_FILE, help="The file with the backend's key, LARAVEL_API_KEY.")
@_CLIENTS
@_COMMON
@_MAX_DROPPED
@_limit("--max-lost", _PERCENT, "Percent of the deliveries that may not come.", 0.0)
@_limit("--max-duplicated", _PERCENT, "Percent of the deliveries that may come twice.", 0.0)
def fanout(url: str, **options: Any) -> None:
    """How fast is a publication at all its subscribers, and is it at all of them?

    Subscribes clients to one channel of the server at URL, publishes to it over HTTP (POST /api/broadcast) at a rate,
    and follows each publication to each socket: latency, what is lost, what comes twice or out of order. A publication
    is an event `load.test`, which real clients of that channel get too: take a channel that nobody else uses.

    \b
      mechamap-bench fanout http://127.0.0.1:3000 --subscribers 200 --rate 4 --max-p99 50 \\
          --jwt-secret-file jwt-secret --key-file api-key
    """

    def load() -> Load:
        key = secret("LARAVEL_API_KEY", options["key"], options["key_file"])
        if not key or not key.isascii() or not key.isprintable():
            raise BenchError(
                "fanout publishes: give --key-file with the server's LARAVEL_API_KEY (or the environment's)"
            )
        _need_descriptors(options["subscribers"])
        return Fanout(
            _accounts(options, options["subscribers"]), subscribers=options["subscribers"], channel=options["channel"],
            rate=options["rate"], seconds=options["seconds"], key=key, size=options["size"], timeout=options["timeout"],
            protocol=options["protocol"],
        )  # fmt: skip

    _run(load, url, options)


@click.command(epilog=_LINES_OF_OPTIONS)
@click.argument("url", metavar="URL/PATH")
@click.option("-n", "--requests", type=click.IntRange(1, 10_000_000), default=1000, show_default=True)
@click.option("-c", "--concurrency", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At once.")
@click.option("-k", "--keepalive", is_flag=True, help="Over kept connections, not a fresh one for each.")
@click.option(
    "--seconds", type=click.FloatRange(0.1, 86_400), default=300.0, show_default=True, help="To end after, in any case."
)
@click.option("--key", help="Send the backend's key. Better in a file.")
@click.option("--key-file", type=_FILE, help="The file with the backend's key, for paths that need it.")
@_COMMON
@_limit("--min-rate", click.FloatRange(0, min_open=True), "Requests a second that must succeed.")
def http(url: str, **options: Any) -> None:
    """How many requests a second does URL/PATH answer? (like ab)

    GETs, so many at once, each the next when its last was answered. Redirects are not followed, and count as failures,
    like every status but 200 to 299.

    \b
      mechamap-bench http http://127.0.0.1:3000/api/health -n 1000 -c 50
    """

    def load() -> Load:
        _need_descriptors(options["concurrency"])
        key = secret(None, options["key"], options["key_file"]) or ""
        if not key.isascii() or not key.isprintable():
            raise BenchError("that is no key")
        return Requests(
            count=options["requests"], concurrency=options["concurrency"], keepalive=options["keepalive"],
            seconds=options["seconds"], timeout=options["timeout"], key=key,
        )  # fmt: skip

    _run(load, url, options)


@click.command()
@click.argument("path", metavar="FILE", type=_OUT)
@click.option("--jwt-secret-file", type=_FILE, help="The server's JWT_SECRET; or JWT_SECRET[_FILE] of the environment.")
@click.option("--users", type=_MOST_CLIENTS, default=100, show_default=True, help="How many users.")
@click.option("--first-user", type=click.IntRange(1), default=1, show_default=True, help="The lowest of their ids.")
@click.option("--role", default="member", show_default=True, help="Of those users, where no database says it.")
@click.option(
    "--life",
    type=click.FloatRange(60, 86_400),
    default=3600.0,
    show_default=True,
    help="Seconds that they are good for.",
)
def tokens(path: str, jwt_secret_file: Path | None, users: int, first_user: int, role: str, life: float) -> None:
    """Sign tokens for a load test, one a line, into FILE (- for stdout), which only its owner may read.

    For --token-file, and for Artillery.
    """
    try:
        accounts = Accounts.collect(
            token=None, token_file=None, jwt_secret_file=jwt_secret_file, users=users, first=first_user, role=role
        )
        lines = "".join(f"{token}\n" for token in accounts.sign(life))
        if path == "-":
            click.echo(lines, nl=False)
            return
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
            os.fchmod(stream.fileno(), 0o600)
            stream.write(lines)
    except (BenchError, OSError) as fault:
        click.echo(f"mechamap-bench: {fault}", err=True)
        raise SystemExit(2) from fault


def _accounts(options: dict[str, Any], clients: int) -> Accounts:
    return Accounts.collect(
        token=options["token"],
        token_file=options["token_file"],
        jwt_secret_file=options["jwt_secret_file"],
        users=min(options["users"] or clients, clients),
        first=options["first_user"],
        role=options["role"],
    )


def _need_descriptors(count: int) -> None:
    """:raises BenchError: this process may not have so many."""
    limit, needed = raise_descriptor_limit(), count + 100
    if needed > limit:
        raise BenchError(f"this takes {needed:,} descriptors, and {limit:,} are allowed here: ulimit -n {needed}")


def _run(make: Callable[[], Load], url: str, options: dict[str, Any]) -> None:
    """Run, show, write, and exit."""
    names = {"p50": "max_p50", "p95": "max_p95", "p99": "max_p99", "failed": "max_failed", "dropped": "max_dropped",
             "lost": "max_lost", "duplicated": "max_duplicated", "rate": "min_rate"}  # fmt: skip
    limits = Limits(**{name: options.get(option) for name, option in names.items()})
    if options["json_path"] == options["svg_path"] == "-":
        raise click.UsageError("only one of --json and --svg can have the standard output")
    quiet = "-" in (options["json_path"], options["svg_path"])
    noise = Console(stderr=True)
    try:
        with show.progress(noise) as tell:
            report = perform(
                make(),
                lambda: aim(url, own=options["own"], cacert=options["cacert"], insecure=options["insecure"]),
                limits,
                tell,
                options["pid"],
            )
    except (BenchError, OSError) as fault:
        click.echo(f"mechamap-bench: {fault}", err=True)
        raise SystemExit(2) from fault
    except KeyboardInterrupt:
        raise SystemExit(2) from None
    shown = noise if quiet else Console(width=None if os.isatty(1) else _WIDTH)
    shown.print(show.render(report), highlight=False, soft_wrap=False)
    _write(report, options["json_path"], options["svg_path"])
    sys.exit(0 if report.passed else 1)


def _write(report: Report, json_path: str | None, svg_path: str | None) -> None:
    document = msgspec.json.format(msgspec.json.encode(report), indent=2).decode() + "\n"
    try:
        for path, content in ((json_path, document), (svg_path, draw(report) if svg_path else "")):
            if path == "-":
                click.echo(content, nl=False)
            elif path is not None:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                Path(path).write_text(content, encoding="utf-8")
    except OSError as error:
        click.echo(f"mechamap-bench: {error}", err=True)
        raise SystemExit(2) from error
