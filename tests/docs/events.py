"""The client events that the code knows, for the documents that list them."""

from __future__ import annotations

import time
from typing import Any

from mechamap_rt.commands.debug import Debugging
from mechamap_rt.commands.groups import GroupCommands
from mechamap_rt.commands.notifications import NotificationCommands
from mechamap_rt.commands.presence import PresenceCommands
from mechamap_rt.commands.table import ClientCommands


def known_events() -> list[str]:
    """Their names, sorted."""
    nothing: Any = None
    client = ClientCommands(
        node=nothing,
        policy=nothing,
        authenticator=nothing,
        typing=nothing,
        presence=nothing,
        subscriptions=nothing,
        store=nothing,
        clock=time.time,
        extend=print,
    )
    groups = GroupCommands(client, node=nothing, site=nothing, presence=nothing, typing=nothing, clock=time.time)
    debugging = Debugging(nothing, nothing, nothing, dict, nothing, time.time)
    tables = (
        client.table(),
        groups.table(),
        debugging.table(),
        PresenceCommands(nothing, time.time).table(),
        NotificationCommands(None, time.time).table(),
    )
    return sorted(event for table in tables for event in table)
