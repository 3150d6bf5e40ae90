"""What a kind of database is to the pool: how to connect, what its errors mean, how to interrupt it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol


class Fate(NamedTuple):
    """What an error of a database means.

    :ivar lost: the connection is of no use any more.
    :ivar again: the same statement may well succeed at once, over a new connection.
    :ivar down: the server answers nobody now.
    :ivar reason: a few words for operators, without values and secrets.
    :ivar row: it is about what was to be written (a constraint, a trigger, a range), which will never be taken.
    """

    lost: bool
    again: bool
    down: bool
    reason: str
    row: bool = False


class Driver(Protocol):
    """One server of one kind. Every method but :meth:`cut` and :meth:`halt` is called in a thread, and may block."""

    @property
    def module(self) -> str:
        """The DB-API module, for adbapi."""

    @property
    def name(self) -> str:
        """For logs: never with a password."""

    @property
    def private(self) -> bool:
        """Is the database its connection's alone, and gone with it?"""

    @property
    def distant(self) -> bool:
        """Is it a server, which may fall silent?"""

    def connect(self) -> Any:
        """A new connection."""

    def query(self, connection: Any, statement: str, arguments: Sequence[Any]) -> list[tuple[Any, ...]]:
        """The rows of one ``SELECT``."""

    def execute(self, connection: Any, statement: str, arguments: Sequence[Any]) -> int:
        """How many rows one statement has changed, or found as they should be."""

    def close(self, connection: Any) -> None:
        """Give a connection up."""

    def halt(self) -> None:
        """Nobody wants a connection any more: whoever waits for one in a thread shall wait no longer."""

    def cut(self, connection: Any) -> None:
        """Have whoever waits for this connection in another thread wait no longer."""

    def fate(self, error: Exception) -> Fate:
        """What an error of any of these means."""
