"""The control protocol, from the operator's side: one request on a connection, lines of JSON for an answer."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from mechamap_rt.cli.failure import Failure
from mechamap_rt.cli.locate import no_answer

LONGEST_LINE: Final = 256 * 1024 * 1024
"""Bytes after which a line without an end is taken for garbage."""

_HINTS = {"UNKNOWN_WORKER": "`mechamapctl workers` lists them."}
_CHUNK = 256 * 1024


def ask(
    connection: socket.socket,
    command: str,
    arguments: dict[str, Any],
    silence: float | None,
    on_progress: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """Have the server execute one command, and close the connection.

    :param silence: seconds without a whole line after which the server counts as hung; None for no limit.
    :param on_progress: called with each ``progress`` object; what it raises ends the command.
    :returns: the ``result`` object.
    :raises Failure: the server refused, hangs, has gone away, or speaks another protocol.
    """
    path = os.fsdecode(connection.getpeername())
    with connection:
        _send(connection, json.dumps({"command": command, "arguments": arguments}).encode() + b"\n", path, silence)
        for line in _lines(connection, path, silence):
            answer = _understand(line, path)
            if "progress" in answer:
                on_progress(answer["progress"])
            elif answer["ok"]:
                return _an_object(answer.get("result"), path)
            else:
                raise _refusal(_an_object(answer.get("error"), path))
    message = f"The server at {path} closed the connection before it had answered"
    raise Failure(
        "CONNECTION_CLOSED", message, "It may have stopped: see its log, and `mechamapctl status`.", path=path
    )


def _send(connection: socket.socket, request: bytes, path: str, silence: float | None) -> None:
    connection.settimeout(silence)
    try:
        connection.sendall(request)
    except TimeoutError:
        raise no_answer(path, silence or 0) from None
    except OSError:
        # It has closed already; why, may be there to be read.
        pass


def _lines(connection: socket.socket, path: str, silence: float | None) -> Iterator[bytes]:
    """Whole lines, until the server closes; what stands behind the last line break is lost."""
    rest = b""
    while True:
        pieces = [rest]
        deadline = None if silence is None else time.monotonic() + silence
        length = len(rest)
        while b"\n" not in pieces[-1]:
            chunk = _receive(connection, deadline)
            if chunk is None:
                raise no_answer(path, silence or 0)
            if not chunk:
                return
            length += len(chunk)
            if length > LONGEST_LINE:
                raise _garbage(path, b"".join(pieces)[:80])
            pieces.append(chunk)
        line, _, rest = b"".join(pieces).partition(b"\n")
        yield line


def _receive(connection: socket.socket, deadline: float | None) -> bytes | None:
    """Some bytes; none when the server has closed, ``None`` when it says nothing until ``deadline``."""
    if deadline is not None:
        # At least a moment: 0 would mean "do not block".
        connection.settimeout(max(deadline - time.monotonic(), 0.001))
    try:
        return connection.recv(_CHUNK)
    except TimeoutError:
        return None
    except OSError:
        return b""


def _understand(line: bytes, path: str) -> dict[str, Any]:
    """One line of an answer: ``{"progress": {…}}`` or ``{"ok": …}``."""
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        raise _garbage(path, line) from None
    if isinstance(answer, dict) and (isinstance(answer.get("progress"), dict) or isinstance(answer.get("ok"), bool)):
        return answer
    raise _garbage(path, line)


def _an_object(value: object, path: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise _garbage(path, json.dumps(value).encode())


def _refusal(error: dict[str, Any]) -> Failure:
    code, message = str(error.get("code", "ERROR")), str(error.get("message", "The server refused without a reason"))
    details = {key: value for key, value in error.items() if key not in ("code", "message", "hint")}
    failure = Failure(code, message, _HINTS.get(code, ""))
    failure.details = details
    return failure


def _garbage(path: str, line: bytes) -> Failure:
    shown = ascii(line[:60].decode("utf-8", "replace")) + ("..." if len(line) > 60 else "")
    return Failure(
        "BAD_ANSWER",
        f"What listens on {path} does not speak the control protocol of mechamap_rt; it said {shown}",
        "Is it another program's socket, or another version's? `--socket PATH` says which one is meant.",
        path=path,
    )
