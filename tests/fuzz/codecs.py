"""Any bytes into every decoder: nothing comes out but events and the documented protocol error."""

from __future__ import annotations

from contextlib import suppress

from mechamap_rt.auth.jwt import JWTVerifier
from mechamap_rt.core import channels
from mechamap_rt.errors import AuthRefused
from mechamap_rt.http import bodies
from mechamap_rt.http.replies import HTTPFault
from mechamap_rt.wire import engineio, json, native, socketio
from mechamap_rt.wire.attachments import Assembly
from mechamap_rt.wire.engineio import Revision

_VERIFIER = JWTVerifier("0123456789abcdef0123456789abcdef", "HS256")


DOCUMENTED = (
    json.BadJSON,
    engineio.EngineIOError,
    socketio.SocketIOError,
    native.NativeError,
    HTTPFault,
    AuthRefused,
    channels.InvalidChannel,
)


def one_input(data: bytes) -> None:
    """Decode ``data``, whose first byte says as what."""
    if not data:
        return
    what, raw = data[0] % 10, data[1:]
    with suppress(*DOCUMENTED):
        _TARGETS[what](raw)


def _json(raw: bytes) -> None:
    json.encode(json.decode(raw))


def _socketio(raw: bytes) -> None:
    packet = socketio.decode(raw)
    if packet.attachments:
        assembly = Assembly(packet, 1000)
        for _ in range(packet.attachments):
            assembly.add(b"x")


def _native(raw: bytes) -> None:
    native.reply(native.decode(raw).id, "event", {})


def _payload(revision: Revision, octets: bool) -> object:
    def decode(raw: bytes) -> None:
        for packet in engineio.decode_payload(raw, revision, octets=octets):
            assert isinstance(packet.data, bytes)

    return decode


def _body(raw: bytes) -> None:
    for parse in (bodies.laravel_broadcast, bodies.broadcast, bodies.notify):
        with suppress(HTTPFault):
            # what is passed through must be parsable by every browser
            assert isinstance(json.decode(parse(raw).data), dict)
    bodies.broadcasts(raw)


def _token(raw: bytes) -> None:
    _VERIFIER.verify(raw.decode("latin-1"))


def _channel(raw: bytes) -> None:
    channels.parse(raw.decode("latin-1"))


_TARGETS = [
    _json,
    _socketio,
    _native,
    engineio.decode,
    _payload(Revision.V4, False),
    _payload(Revision.V3, False),
    _payload(Revision.V3, True),
    _body,
    _token,
    _channel,
]

#: Where the search begins: one sound input for every decoder.
SEEDS = [
    b'\x00{"a":[1,2.5e3,"\\ud83d\\ude00",null,true]}',
    b'\x01212["typing_start",{"thread_id":7}]',
    b'\x0152-/admin,7["a",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]',
    b'\x02{"type":"subscribe","id":1,"channel":"thread.7"}',
    b'\x0342["a"]',
    b'\x0442["a"]\x1ebAQID\x1e2',
    b'\x0510:42["a",1]1:2',
    b"\x06\x00\x02\xff42\x01\x03\xff\x04\x01\x02",
    b'\x07{"channels":["private-user.5",{"name":"a"}],"event":"e","data":{"a":[]},"timestamp":"t"}',
    b'\x07{"broadcasts":[{"channel":"a","event":"b","data":{}}]}',
    b'\x07{"action":"broadcast_to_channel","channel":"a","data":{"type":"x"}}',
    b"\x08eyJhbGciOiJIUzI1NiJ9.eyJ1c2VySWQiOjV9.AAAA",
    b"\x09presence-thread.7",
]
