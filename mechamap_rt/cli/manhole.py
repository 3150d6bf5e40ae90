"""The way into a running process: the ssh command, which knows the server's key from the control socket."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from mechamap_rt.cli.failure import Failure


def ssh(found: Mapping[str, Any], identity: Path | None) -> list[str]:
    """The ssh command; nothing is asked of or written to the user's known_hosts.

    :param found: the server's answer: ``address``, ``port``, ``user`` and ``host_key``.
    :param identity: the file of the private key; ``None`` for ssh's own choice.
    """
    address, port = str(found["address"]), int(found["port"])
    known = f"/bin/echo [{address}]:{port} {found['host_key']}"
    options = [f"KnownHostsCommand={known}", "UserKnownHostsFile=/dev/null", "StrictHostKeyChecking=yes"]
    chosen = [] if identity is None else ["-i", str(identity)]
    given = [part for each in options for part in ("-o", each)]
    return ["ssh", "-p", str(port), *given, *chosen, f"{found['user']}@{address}"]


def without_terminal(words: list[str]) -> list[str]:
    """The command for what comes from a pipe: ssh would remark that it is no terminal."""
    return [words[0], "-T", *words[1:]]


def written(words: list[str]) -> str:
    """A command as a shell takes it."""
    return shlex.join(words)


def become(words: list[str]) -> NoReturn:
    """Run a command in the place of this process.

    :raises Failure: it is not there.
    """
    sys.stdout.flush()
    try:
        os.execvp(words[0], words)
    except OSError as error:
        reason = error.strerror or str(error)
        raise Failure("NO_SSH", f"ssh cannot be run: {reason}", "On Debian: apt-get install openssh-client") from None
