"""``twistd mechamap``: its options, and the service it makes."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from twisted.application.service import IService
from twisted.python import usage

from mechamap_rt import __version__
from mechamap_rt.cli import check
from mechamap_rt.interfaces import IReactor
from mechamap_rt.process.serverlog import ServerLog
from mechamap_rt.settings import Settings, SettingsError, find_env_file, load
from mechamap_rt.system import descriptors


class Options(usage.Options):
    """Options of ``twistd mechamap``. What else there is to set comes from the environment."""

    synopsis = "[options]"
    longdesc = "The realtime layer of a community site. Settings come from the environment and a .env file."
    optParameters = [
        ["env-file", "e", None, "File of settings (default: .env in the current directory, if there is one)."],
    ]
    optFlags = [
        ["check", None, "Print the effective settings, or every fault, and exit."],
    ]

    def opt_version(self) -> None:
        """Print the version and exit."""
        print(f"mechamap_rt {__version__}")
        sys.exit(0)

    def env_file(self) -> Path | None:
        chosen = self["env-file"]
        return Path(chosen) if chosen else find_env_file()


def makeService(options: Options) -> IService:
    """The service, or an exit that names every fault of the settings."""
    if options["check"]:
        sys.exit(check.run(os.environ, options.env_file(), sys.stdout, sys.stderr))
    try:
        loaded = load(os.environ, options.env_file())
    except SettingsError as error:
        sys.exit("\n".join(["The settings are not valid:", *(f"  {fault}" for fault in error.faults)]))
    for warning in loaded.warnings:
        print(warning, file=sys.stderr)
    descriptors.raise_limit()
    from twisted.internet import reactor

    running = cast(IReactor, reactor)
    settings = loaded.settings
    log = server_log(running, settings, options.parent or {})
    if settings.cluster.enabled:
        # the master never imports what serves clients: that is what keeps it small
        from mechamap_rt.process.master import Master

        return Master(running, settings, options.env_file(), say, give_up, log)
    from mechamap_rt.process.single import Single

    return Single(running, settings, say, give_up, log)


def server_log(reactor: IReactor, settings: Settings, twistd: Mapping[str, Any]) -> ServerLog:
    """The log, which what ``twistd`` itself has been told about one has a say in.

    :param twistd: its options.
    """
    logfile = twistd.get("logfile") or ("" if twistd.get("nodaemon") else "twistd.log")
    foreign = bool(twistd.get("logger") or twistd.get("syslog"))
    log = ServerLog(reactor, settings, "" if logfile == "-" else logfile, foreign)
    atexit.register(log.finish)
    return log


def say(text: str) -> None:
    """Print to the terminal itself: twistd turns ``sys.stdout`` into log lines."""
    stdout = sys.__stdout__
    if stdout is not None:
        stdout.write(text + "\n")
        stdout.flush()


def give_up() -> None:
    """Have the process end with status 1 when everything else is done: twistd knows no failed start."""
    atexit.register(_exit)


def _exit() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)
