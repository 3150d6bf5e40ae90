"""Publications as bytes, for their way between processes: one MessagePack array."""

from __future__ import annotations

from typing import Final

import msgspec

from mechamap_rt.core import channels
from mechamap_rt.core.publication import DeliveryClass, Priority, Publication


class Parcel(msgspec.Struct, array_like=True, gc=False):
    """What is written of a publication; ``delivery`` and ``priority`` are numbers.

    What was added has a default: processes of another version write less, and leave out what they do not know.
    """

    id: str
    channel: str
    event: str
    data: bytes
    delivery: int
    key: str
    sender: str
    priority: int = 0
    born: float = 0.0


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Parcel)
_PRIORITIES: Final = {int(each): each for each in Priority}


def pack(publication: Publication, *, host: bool = False) -> bytes:
    """:param host: is it for a process of this host, which has the same clock?"""
    return _encoder.encode(
        (
            publication.id,
            publication.channel.name,
            publication.event,
            publication.data,
            int(publication.delivery),
            publication.key,
            publication.sender,
            int(publication.priority),
            publication.born if host else 0.0,
        )
    )


def unpack(packed: bytes | memoryview) -> Publication:
    """The publication that :func:`pack` was given.

    :raises ValueError: these bytes are none (another version's, or a stranger's).
    """
    try:
        parcel = _decoder.decode(packed)
        return Publication.restored(
            parcel.id,
            channels.parse(parcel.channel),
            parcel.event,
            parcel.data,
            DeliveryClass(parcel.delivery),
            parcel.key,
            parcel.sender,
            # one that a later version has invented is no reason to wait
            _PRIORITIES.get(parcel.priority, Priority.HIGH),
            parcel.born,
        )
    except (msgspec.MsgspecError, channels.InvalidChannel) as error:
        raise ValueError(f"not a publication: {error}") from None
