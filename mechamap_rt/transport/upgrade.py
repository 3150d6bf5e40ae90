"""The upgrade of a polling session to a WebSocket, up to the client's word that it may move."""

from __future__ import annotations

from mechamap_rt.core.wheel import Deadline
from mechamap_rt.errors import Disconnect
from mechamap_rt.transport.enginesession import EngineSession
from mechamap_rt.transport.websocket import Pipe


class Probe:
    """A WebSocket that wants to take over a polling session; it must say so within the upgrade time-out."""

    __slots__ = ("_deadline", "_pipe", "_session", "probed")

    def __init__(self, session: EngineSession, pipe: Pipe) -> None:
        self._session = session
        self._pipe = pipe
        self._deadline: Deadline | None = None
        #: Has it been heard from?
        self.probed = False
        session.probe = self

    def opened(self) -> None:
        door = self._session.door
        self._deadline = door.lobby.wheel.after(door.upgrade_timeout, lambda: self.dismiss(Disconnect.BAD_MESSAGE))

    def text(self, payload: bytes) -> None:
        if payload == b"2probe" and not self.probed:
            self.probed = True
            self._pipe.send_text(b"3probe")
            self._session.probing()
        elif payload == b"5" and self.probed:
            self._settle()
            if self._session.upgrade(self._pipe):
                self._pipe.session = self._session
            else:
                self._pipe.finish(Disconnect.BAD_MESSAGE)
        else:
            self.dismiss(Disconnect.BAD_MESSAGE)

    def binary(self, payload: bytes) -> None:
        self.dismiss(Disconnect.BAD_MESSAGE)

    def heard(self) -> None:
        """What comes is looked at when it is a message."""

    ponged = heard

    def lost(self) -> None:
        self._give_up()

    def dismiss(self, reason: Disconnect) -> None:
        """End the attempt; polling goes on."""
        self._give_up()
        self._pipe.finish(reason)

    def release(self, reason: Disconnect) -> None:
        """The way over which the client wants to move will end, though its session's process stays.

        Who was told ``3probe`` has stopped to poll for good: the whole session has to begin anew.
        """
        if self.probed:
            self._session.dismiss(reason)
        else:
            self.dismiss(reason)

    def _settle(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._settle()
        self._session.stay(self)
