"""What processes of different hosts say to one another through Redis: MessagePack arrays.

On ``<prefix>ch:<resource>``, and on ``<prefix>ch:*`` what every process must hear, a publication: ``[origin, counted,
sequence, parcel]`` with a head of fixed size, so that what a host said itself is recognised without decoding. On
``<prefix>all`` and in a process's inbox, ``<prefix>node:<node>``, the messages below, which begin with their name.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec

#: Ids of hosts and of processes; a process's begins with its host's.
HOST_LENGTH: Final = 3
NODE_LENGTH: Final = 6

# array of 4, string of 6, the string, false or true, unsigned 64 bits, the number
_HEAD: Final = struct.Struct(">BB6sBBQ")
_ARRAY, _STRING, _FALSE, _TRUE, _NUMBER = 0x94, 0xA6, 0xC2, 0xC3, 0xCF
HEAD_LENGTH: Final = _HEAD.size


class Hello(msgspec.Struct, array_like=True, tag="hello"):
    """This process hears everything that it is subscribed to.

    :ivar first: a number below its publications' sequences; another one says that it was started anew.
    :ivar fresh: it was away; whoever hears it says hello to its inbox.
    """

    node: str
    first: int
    fresh: bool


class Bye(msgspec.Struct, array_like=True, tag="bye"):
    """This process leaves on purpose."""

    node: str


class Question(msgspec.Struct, array_like=True, tag="ask"):
    """Every process answers to the inbox of ``node``."""

    node: str
    serial: int
    question: str
    body: bytes


#: A number of subscribers, an answer to a question, or nothing to add (the asker knows it already).
Answer = int | bytes | None


class Answers(msgspec.Struct, array_like=True, tag="answers"):
    """Answers of one process to another, by serial."""

    answers: list[tuple[int, Answer]]


Message = Hello | Bye | Question | Answers

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Hello | Bye | Question | Answers)


def encode(message: Message) -> bytes:
    return _encoder.encode(message)


def decode(body: bytes) -> Message:
    """
    :raises ValueError: these bytes are no message (another version's, or a stranger's).
    """
    try:
        message: Message = _decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a message: {error}") from None
    return message


def head(origin: bytes, counted: bool, sequence: int) -> bytes:
    """What comes before the parcel of a publication."""
    return _HEAD.pack(_ARRAY, _STRING, origin, _TRUE if counted else _FALSE, _NUMBER, sequence)


def read_head(body: bytes) -> tuple[bytes, bool, int]:
    """Origin, counted, sequence.

    :raises ValueError: not the head of a publication.
    """
    if len(body) <= HEAD_LENGTH:
        raise ValueError("too short for a publication")
    array, string, origin, counted, number, sequence = _HEAD.unpack_from(body)
    if array != _ARRAY or string != _STRING or number != _NUMBER:
        raise ValueError("not a publication")
    return origin, counted == _TRUE, sequence
