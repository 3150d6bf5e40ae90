"""The other processes behind the same Redis, known by their hellos."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from mechamap_rt.bus.redis_messages import HOST_LENGTH, NODE_LENGTH, Hello

#: Seconds between a process's hellos, and the silence after which it is forgotten.
HELLO_INTERVAL: Final = 5.0
FORGET_AFTER: Final = 15.0
#: Processes whose last sequence is remembered.
MOST_SEQUENCES: Final = 4096


class Peers:
    """Processes of other hosts.

    :ivar missing: those that were known before the link was lost and have not said hello since.
    """

    def __init__(self, host: str) -> None:
        self._host = host
        self._heard: dict[str, float] = {}
        self._echoed = 0.0
        self._sequences: OrderedDict[bytes, tuple[int, int]] = OrderedDict()
        self.missing: set[str] = set()

    def __len__(self) -> int:
        return len(self._heard)

    def hosts(self) -> int:
        """How many other hosts there are."""
        return len({node[:HOST_LENGTH] for node in self._heard})

    def hello(self, hello: Hello, now: float) -> bool:
        """A process is there; is it another one than before, under the same name?"""
        node = hello.node
        if node.startswith(self._host) or len(node) != NODE_LENGTH:
            return False
        known = node in self._heard
        self._heard[node] = now
        self.missing.discard(node)
        origin = node.encode()
        first, last = self._sequences.get(origin, (0, 0))
        anew = known and first not in (0, hello.first)
        if first != hello.first:
            # A first one that is known and differs: started anew with the same id, perhaps by a clock that was set
            # back. Its sequences begin again.
            self._sequences[origin] = (hello.first, last if first == 0 else hello.first)
            if len(self._sequences) > MOST_SEQUENCES:
                self._sequences.popitem(last=False)
        return anew

    def bye(self, node: str) -> bool:
        """A process has left; was it known?"""
        self.missing.discard(node)
        return self._heard.pop(node, None) is not None

    def lost(self) -> None:
        """The link is gone: whoever was there is waited for when it is back."""
        self.missing |= self._heard.keys()

    def found(self, now: float) -> None:
        """The link is back: nobody could be heard in between."""
        self._echoed = now
        for node in self._heard:
            self._heard[node] = now

    def echo(self, now: float) -> list[tuple[str, float]]:
        """Our own hello has come back, so what others had said before it has been heard: silence is silence.

        Not so after a gap: this process or Redis stood still, and nobody could be heard.

        :returns: as :meth:`expire`.
        """
        if now - self._echoed > 2 * HELLO_INTERVAL:
            self.found(now)
            return []
        self._echoed = now
        return self.expire(now)

    def expire(self, now: float) -> list[tuple[str, float]]:
        """Forget those that have been silent for long, and say which, and for how long."""
        silent = [(node, now - heard) for node, heard in self._heard.items() if now - heard > FORGET_AFTER]
        for node, _ in silent:
            del self._heard[node]
        return silent

    def repeats(self, origin: bytes, sequence: int) -> bool:
        """Has a publication of ``origin`` come before? They come in order, and repeats in the same order again."""
        first, last = self._sequences.get(origin, (0, 0))
        if sequence <= last:
            return True
        self._sequences[origin] = (first, sequence)
        return False
