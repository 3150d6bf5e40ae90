"""What is at hand in the shells of each process; imported when the first visitor of the manhole comes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from mechamap_rt import __version__
from mechamap_rt.cli.views import worker_table
from mechamap_rt.manhole.hands import Hands, text, tools_of
from mechamap_rt.manhole.shell import Shells
from mechamap_rt.settings import Settings
from mechamap_rt.settings.describe import masked

if TYPE_CHECKING:
    from mechamap_rt.app import Realtime
    from mechamap_rt.process.crew import Crew
    from mechamap_rt.process.master import Master


def shells_of(reactor: Any, settings: Settings, app: Realtime, number: int | None = None) -> Shells:
    """The shells of a process that serves clients.

    :param number: of the worker; ``None`` for a single process.
    """
    things = {
        "app": (app, "what serves clients, put together"),
        "node": (app.node, "where publications come and go"),
        "hub": (app.node.hub, "who is subscribed to what"),
        "engine": (app.engine, "Engine.IO: the sessions of Socket.IO"),
        "gate": (app.gate, "the WebSockets"),
        "settings": (masked(settings), "the settings, without the secrets"),
    }
    hands = Hands(reactor, things, tools_of(app))
    label = "a single process" if number is None else f"worker {number}"
    return Shells(reactor, _greeting(f"{label}, node {app.node.name}"), hands.names)


def shells_of_master(reactor: Any, settings: Settings, master: Master, crew: Crew) -> Shells:
    """The shells of the master."""

    def workers() -> None:
        """the workers"""
        print(text([worker_table([child.describe() for child in crew.workers.values()])]), end="")

    things = {
        "master": (master, "this process, as a service"),
        "crew": (crew, "the workers"),
        "settings": (masked(settings), "the settings as they were at the start, without the secrets"),
    }
    hands = Hands(reactor, things, lambda session: [workers])
    return Shells(reactor, _greeting("the master"), hands.names)


def _greeting(where: str) -> str:
    return (
        f"mechamap_rt {__version__}: {where}, process {os.getpid()}\n"
        "While a statement runs, everybody here waits. help() tells what is at hand; Ctrl-D leaves.\n"
    )
