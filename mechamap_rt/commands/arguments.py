"""What clients' requests are about, taken out of their data."""

from __future__ import annotations

import re
from typing import Any

from mechamap_rt.core import channels
from mechamap_rt.core.channels import Channel, InvalidChannel
from mechamap_rt.core.identity import MAX_ID
from mechamap_rt.errors import ClientFault, Code

_ID = re.compile(r"[1-9][0-9]{0,18}")


def channel_of(data: Any) -> Channel:
    """The channel of ``{channel}`` or of the bare channel string."""
    name = data.get("channel") if isinstance(data, dict) else data
    if name is None or name == "":
        raise ClientFault(Code.VALIDATION_ERROR, "Channel is required", field="channel")
    try:
        return channels.parse(name) if isinstance(name, str) else _refuse_name()
    except InvalidChannel as error:
        raise ClientFault(Code.VALIDATION_ERROR, f"Invalid channel: {error}", field="channel") from None


def _refuse_name() -> Channel:
    raise InvalidChannel("a string is required")


def ident(value: Any) -> int | None:
    """A database id: a positive integer, or its decimal digits in a string; ``None`` for anything else."""
    if isinstance(value, str) and _ID.fullmatch(value):
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_ID else None


def group_of(data: Any) -> int:
    """The group of ``{group_id}`` or of the bare id."""
    group_id = ident(data.get("group_id") if isinstance(data, dict) else data)
    if group_id is None:
        raise ClientFault(Code.VALIDATION_ERROR, "A group's id is a positive integer", field="group_id")
    return group_id
