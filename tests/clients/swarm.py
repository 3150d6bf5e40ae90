"""Very many socket.io-clients that keep account of what they see: one Node process (``swarm.mjs``)."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from tests.clients.accounts import Account, Stay
from tests.clients.node import FOLDER, MODES, NEWEST

END_LIMIT = 5.0

#: They come back soon, each at its own time.
OPTIONS: dict[str, Any] = {"reconnectionDelay": 200, "reconnectionDelayMax": 1000}


class Swarm:
    """The Node process. Calls are answered one after another."""

    def __init__(self, command: str) -> None:
        self._process = subprocess.Popen(
            [command, "swarm.mjs"],
            cwd=FOLDER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self._numbers = itertools.count(1)

    def _call(self, what: str, **members: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        call = {"call": next(self._numbers), "do": what, **members}
        self._process.stdin.write(json.dumps(call) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "Node has ended"
        answer = json.loads(line)
        assert "error" not in answer, answer
        return answer["result"]

    def add(
        self,
        url: str,
        clients: Mapping[str, tuple[str, str]],
        *,
        mode: str = "default",
        version: str = NEWEST,
        keep_alive: bool = False,
        **options: Any,
    ) -> None:
        """Further clients.

        :param clients: token and channel of each, by its name.
        :param mode: one of :data:`~tests.clients.node.MODES`.
        :param keep_alive: may its HTTP requests share connections?
        """
        listed = [{"name": name, "token": token, "channel": channel} for name, (token, channel) in clients.items()]
        self._call(
            "add",
            url=url,
            version=version,
            kind=mode,
            keepAlive=keep_alive,
            options=OPTIONS | MODES[mode] | options,
            clients=listed,
        )

    def subscribed(self) -> int:
        """Clients that are connected and subscribed now."""
        count: int = self._call("counts")["subscribed"]
        return count

    def upgraded(self) -> int:
        """Clients that have moved from polling to a WebSocket."""
        count: int = self._call("counts")["upgraded"]
        return count

    def received(self) -> int:
        """Deliveries so far."""
        count: int = self._call("counts")["received"]
        return count

    def accounts(self) -> list[Account]:
        found = [Account(**row) for row in self._call("report")]
        for account in found:
            account.stays = [Stay(**stay) for stay in account.stays]  # type: ignore[arg-type]
        return found

    def clear(self) -> None:
        """Let everybody leave."""
        self._call("close")

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(END_LIMIT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
