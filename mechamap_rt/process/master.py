"""The master: holds the listening sockets and the workers' lives, and does no client's work.

It binds before privileges are given up, starts the workers, watches them, answers the operator, and keeps the host's
session store. What it does it does in a few small turns, so that it is there when something has to be decided.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.task import LoopingCall
from twisted.logger import Logger, globalLogPublisher
from twisted.python.failure import Failure

from mechamap_rt import __version__
from mechamap_rt.announcement import announce, cautions
from mechamap_rt.core.limits import Tally
from mechamap_rt.place import host_name, quota
from mechamap_rt.process.child import Child, State
from mechamap_rt.process.control import Control, Say, tcp_port
from mechamap_rt.process.crew import Crew
from mechamap_rt.process.operations import OperationFault, integer
from mechamap_rt.process.orders import Operate, Refused
from mechamap_rt.process.scaling import Scaler
from mechamap_rt.settings import Settings, SettingsError, environ_of, load
from mechamap_rt.settings.names import KNOWN, is_foreign
from mechamap_rt.system import listening
from mechamap_rt.system.collector import Collector
from mechamap_rt.system.listening import Bound, ListenError
from mechamap_rt.system.meter import resident
from mechamap_rt.system.notify import Notifier
from mechamap_rt.wire import json

_log = Logger()

#: Seconds between two looks at the workers, at most.
LOOK: Final = 1.0
#: What the service manager tells this process, and not its children.
_OURS: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Master(Service):
    """The master process as a service.

    :param env_file: where the settings are read from again at a reload, besides the environment.
    :param say: prints what a person at a terminal should see.
    :param give_up: called when the start has failed.
    """

    name = "mechamap"

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        env_file: Path | None,
        say: Callable[[str], object],
        give_up: Callable[[], object],
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._env_file = env_file
        self._say = say
        self._give_up = give_up
        self._sockets: list[Bound] = []
        self._unbound: ListenError | None = None
        self._host = host_name(settings)
        self._tally = Tally(quota(settings), reactor.seconds)
        self._alerts: dict[str, dict[str, Any]] = {}
        self._control = Control(reactor, self._run)
        self._notifier = Notifier(os.environ)
        self._collector = Collector(reactor, settings.cluster.gc_interval)
        self._looking = LoopingCall(self._look)
        self._lock = DeferredLock()
        self._busy = ""
        self._reloads = 0
        self._started = reactor.seconds()
        self._crew: Crew | None = None
        self._commands: Mapping[str, Callable[[Mapping[str, Any], Say], Any]] = {
            "status": self._status,
            "workers": self._workers,
            "reload": self._reload,
            "scale": self._scale,
            "restart": self._restart,
            "drain": self._drain,
        }

    # life

    def privilegedStartService(self) -> None:
        """Bind while the process may still bind low ports; called before privileges are given up."""
        try:
            self._sockets = listening.bind(self._settings, os.environ)
        except ListenError as error:
            self._unbound = error

    def startService(self) -> None:
        super().startService()
        globalLogPublisher.addObserver(self._control.journal)
        starting = Deferred.fromCoroutine(self._start())
        starting.addErrback(self._fail)

    async def _start(self) -> None:
        if self._unbound is not None:
            raise self._unbound
        self._control.listen(self._settings, tcp_port(self._sockets))
        signal.signal(signal.SIGHUP, lambda number, frame: self._reactor.callFromThread(self._hang_up))
        low, start, high = self._settings.cluster.worker_range(os.cpu_count() or 1)
        crew = self._crew = Crew(self._reactor, self._host, self._tally, self._sockets, self._alert)
        self._configure(crew, self._settings)
        crew.wanted = start
        self._scaler = self._make_scaler(low, high, start)
        await crew.fill()
        if not self.running:
            return
        self._collector.start()
        self._looking.clock = self._reactor
        self._looking.start(min(LOOK, self._settings.monitoring.health_check_timeout / 4), now=False)
        self._announce()
        self._notifier.ready()
        self._watch_over()

    def _configure(self, crew: Crew, settings: Settings) -> None:
        """What of the settings concerns the watching."""
        crew.environ = environ_for_workers(settings)
        crew.hung_after = settings.monitoring.health_check_timeout
        crew.memory_limit = settings.cluster.memory_limit

    def _make_scaler(self, low: int, high: int, start: int) -> Scaler:
        cluster = self._settings.cluster
        return Scaler(low, high, cluster.scale_cpu, cluster.scale_lag, self._reactor.seconds, start=start)

    def _announce(self) -> None:
        for caution in cautions(self._settings):
            _log.warn("Warning: {caution}", caution=caution)
        urls = [bound.url for bound in self._sockets]
        for url in urls:
            _log.info("Listening on {url}", url=url)
        announce(self._settings, urls, self._say)

    def _fail(self, reason: Failure) -> None:
        """The start failed: say why, and stop."""
        faults = getattr(reason.value, "faults", None) or (reason.getErrorMessage(),)
        for fault in faults:
            _log.critical("The server cannot start: {reason}", reason=fault)
            self._say(f"The server cannot start: {fault}")
        self._give_up()
        self._reactor.callLater(0, self._reactor.stop)

    def stopService(self) -> Deferred[None]:
        super().stopService()
        self._notifier.stopping()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._looking.running:
            self._looking.stop()
        self._collector.stop()
        if self._watchdog is not None and self._watchdog.active():
            self._watchdog.cancel()
        if self._crew is not None:
            await self._crew.stop()
        for bound in self._sockets:
            bound.socket.close()
            bound.unlink()
        await self._control.stop()
        globalLogPublisher.removeObserver(self._control.journal)

    # watching

    _watchdog: Any = None

    def _watch_over(self) -> None:
        """Tell the service manager that all is well, as long as there is somebody to serve clients."""
        interval = self._notifier.watchdog_interval
        if interval is None:
            return
        if self._crew is not None and self._crew.workers:
            self._notifier.watchdog()
        self._watchdog = self._reactor.callLater(interval, self._watch_over)

    def _look(self) -> None:
        crew = self._crew
        if crew is None:
            return
        for child in crew.check():
            self._background(self._relieve(child))
        serving = crew.serving()
        if serving and not self._busy:
            samples = [(child.figures.get("cpu", 0.0), child.figures.get("lag", 0.0)) for child in serving]
            wanted = self._scaler.observe(samples)
            if wanted != crew.wanted:
                _log.info(
                    "{wanted} workers instead of {had}: {reason}",
                    wanted=wanted,
                    had=crew.wanted,
                    reason=self._scaler.reason,
                )
                self._background(self._rescale(wanted))

    def _background(self, work: Any) -> None:
        running = Deferred.fromCoroutine(work)
        running.addErrback(lambda reason: _log.error("{reason}", reason=reason.getErrorMessage()))

    async def _relieve(self, child: Child) -> None:
        """A worker has more memory than it should."""
        if self._busy:
            return
        _log.warn(
            "Worker {worker} has {rss} MB, over MEMORY_LIMIT: it is replaced",
            worker=child.number,
            rss=child.figures["rss"] // 2**20,
        )
        await self._alone("restart", partial(self._replace, child))

    def _alert(self, name: str, message: str | None) -> None:
        """Raise an alert, or clear it."""
        if message is None:
            if self._alerts.pop(name, None) is not None:
                _log.info("Cleared: {name}", name=name)
        elif name not in self._alerts:
            self._alerts[name] = {"name": name, "message": message, "since": time.time()}
            _log.critical("Alert {name}: {message}", name=name, message=message)
        else:
            self._alerts[name]["message"] = message

    def _hang_up(self) -> None:
        """SIGHUP: reload."""
        self._background(self._reload({}, lambda progress: _log.info("Reload: {text}", **progress)))

    # commands

    async def _run(self, command: str, asked: Mapping[str, Any], say: Say) -> dict[str, Any]:
        own = self._commands.get(command)
        if own is not None:
            result: dict[str, Any] = await own(asked, say)
            return result
        serving = self._the_crew().serving()
        if not serving:
            raise OperationFault("NO_WORKER", "No worker is ready")
        try:
            answer = await serving[0].orders.callRemote(Operate, command=command, asked=json.encode(asked))
        except Refused as refused:
            raise _fault(str(refused)) from None
        operated: dict[str, Any] = json.decode(answer["answer"])
        if command == "connections":
            numbers = {child.name: child.number for child in self._the_crew().workers.values()}
            for row in operated["connections"]:
                row["worker"] = numbers.get(row["worker"], row["worker"])
        return operated

    def _the_crew(self) -> Crew:
        if self._crew is None:
            raise OperationFault("STARTING", "The server is starting")
        return self._crew

    async def _alone(self, what: str, work: Callable[[], Any]) -> Any:
        """Do one thing to the workers at a time.

        :raises OperationFault: another is under way.
        """
        if self._busy:
            raise OperationFault("BUSY", f"A {self._busy} is under way")
        self._busy = what
        try:
            return await work()
        except RuntimeError as error:
            raise OperationFault("FAILED", str(error)) from None
        finally:
            self._busy = ""

    async def _status(self, asked: Mapping[str, Any], say: Say) -> dict[str, Any]:
        crew = self._the_crew()
        workers = (await self._workers(asked, say))["workers"]
        totals = {
            name: sum(worker[name] for worker in workers)
            for name in ("connections", "users", "subscriptions", "published", "delivered")
        }
        state = "stopping" if not self.running else "reloading" if self._busy == "reload" else "running"
        return {
            "mode": "cluster",
            "version": __version__,
            "pid": os.getpid(),
            "host": self._host,
            "uptime": round(self._reactor.seconds() - self._started, 1),
            "state": state,
            "listening": [bound.url for bound in self._sockets],
            "degraded": any(worker["degraded"] for worker in workers),
            **totals,
            "memory": {"rss": resident()},
            "wanted": crew.wanted,
            "workers": workers,
            "alerts": list(self._alerts.values()),
            "reloads": self._reloads,
            "restarts": crew.restarts,
        }

    async def _workers(self, asked: Mapping[str, Any], say: Say) -> dict[str, Any]:
        return {"workers": [child.describe() for child in self._the_crew().workers.values()]}

    async def _reload(self, asked: Mapping[str, Any], say: Say) -> dict[str, Any]:
        """New workers with new code and settings take the place of the old ones."""
        seconds = self._seconds(asked)
        result: dict[str, Any] = await self._alone("reload", partial(self._renew, seconds, say))
        return result

    async def _renew(self, seconds: float | None, say: Say) -> dict[str, Any]:
        began = self._reactor.seconds()
        crew = self._the_crew()
        settings = self._settings_again()
        self._notifier.reloading()
        low, start, high = settings.cluster.worker_range(os.cpu_count() or 1)
        # an operator's scaling outlives a reload, unless the range has changed
        wanted = crew.wanted if settings.cluster == self._settings.cluster else start
        if seconds is None:
            seconds = settings.cluster.drain_time
        try:
            done = await crew.renew(environ_for_workers(settings), wanted, seconds, lambda text: say({"text": text}))
            self._settings = settings
            self._configure(crew, settings)
            if quota(settings) != self._tally.quota:
                self._tally.change(quota(settings))
            self._scaler = self._make_scaler(low, high, wanted)
            self._reloads += 1
        finally:
            self._notifier.ready()
        took = round(self._reactor.seconds() - began, 2)
        _log.info(
            "Reloaded in {seconds} s: workers {old} gave way to {new}", seconds=took, old=done["old"], new=done["new"]
        )
        return {"seconds": took} | done

    def _settings_again(self) -> Settings:
        """The settings as they are now; secrets that were made up stay the same.

        :raises OperationFault: they are not valid; everything stays as it is.
        """
        kept = {name: text for name, text in environ_of(self._settings).items() if name in self._settings.generated}
        try:
            settings = load(os.environ, self._env_file).settings
            made_up = {name: kept[name] for name in settings.generated if name in kept}
            if made_up:
                settings = load({**os.environ, **made_up}, self._env_file).settings
        except SettingsError as error:
            raise OperationFault("BAD_SETTINGS", "; ".join(str(fault) for fault in error.faults)) from None
        before, now = self._settings.server, settings.server
        if (before.host, before.port, before.listen) != (now.host, now.port, now.listen):
            _log.warn("HOST, PORT and LISTEN take effect with the next restart of the server")
        return settings

    def _seconds(self, asked: Mapping[str, Any]) -> float | None:
        seconds = asked.get("drain")
        if seconds is None:
            return None
        if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 <= seconds <= 3600:
            raise OperationFault("INVALID", "From 0 to 3600 seconds are possible", "drain")
        return float(seconds)

    async def _scale(self, asked: Mapping[str, Any], say: Say) -> dict[str, Any]:
        crew = self._the_crew()
        to = asked.get("to")
        text = str(to)
        if not text.lstrip("+-").isascii() or not text.lstrip("+-").isdigit() or len(text) > 5:
            raise OperationFault("INVALID", "A number, +1 or -1 is required", "to")
        before = crew.wanted
        wanted = before + int(text) if text[0] in "+-" else int(text)
        if not 1 <= wanted <= MAX_WORKERS:
            raise OperationFault("INVALID", f"From 1 to {MAX_WORKERS} workers are possible", "to")
        await self._rescale(wanted)
        self._scaler = self._make_scaler(*self._range(wanted), wanted)
        return {"from": before, "to": wanted}

    def _range(self, wanted: int) -> tuple[int, int]:
        """The bounds of automatic scaling, widened to what the operator wants."""
        low, _, high = self._settings.cluster.worker_range(os.cpu_count() or 1)
        return min(low, wanted), max(high, wanted)

    async def _rescale(self, wanted: int) -> None:
        await self._alone("scale", partial(self._change_number, wanted))

    async def _change_number(self, wanted: int) -> None:
        crew = self._the_crew()
        before, crew.wanted = crew.wanted, wanted
        if wanted > before:
            try:
                await crew.fill()
            except Exception as error:
                crew.wanted = before
                failed: Any = error
                raise RuntimeError(str(getattr(failed, "subFailure", failed).value)) from None
        for child in sorted(crew.current(), key=lambda child: child.number)[wanted:]:
            self._background(crew.retire(child, self._settings.cluster.drain_time))

    async def _restart(self, asked: Mapping[str, Any], say: Say) -> dict[str, Any]:
        child = self._worker(asked)
        return {"old": child.number, "new": await self._alone("restart", partial(self._replace, child))}

    async def _replace(self, child: Child) -> int:
        another, _ = await self._the_crew().replace(child, self._settings.cluster.drain_time)
        return another.number

    async def _drain(self, asked: Mapping[str, Any], say: Say) -> dict[str, Any]:
        """Take a worker out of service, without another in its place."""
        child = self._worker(asked)
        crew = self._the_crew()
        if len(crew.serving()) < 2:
            raise OperationFault(
                "LAST_WORKER", "It is the only worker; restart replaces it, scale adds others", "worker"
            )
        await self._alone("drain", partial(self._take_out, child))
        return {"worker": child.number}

    async def _take_out(self, child: Child) -> None:
        crew = self._the_crew()
        crew.wanted = max(1, crew.wanted - 1)
        self._scaler = self._make_scaler(*self._range(crew.wanted), crew.wanted)
        await crew.retire(child, self._settings.cluster.drain_time)

    def _worker(self, asked: Mapping[str, Any]) -> Child:
        number = integer(asked, "worker", 1)
        child = self._the_crew().workers.get(number)
        if child is None or child.state not in (State.READY, State.STARTING):
            there = ", ".join(str(child.number) for child in self._the_crew().serving())
            raise OperationFault(
                "UNKNOWN_WORKER", f"There is no worker {number} to do that to; there are {there}", "worker"
            )
        return child


#: Workers of one host: slots of the scoreboard, two generations of them.
MAX_WORKERS: Final = 32


def environ_for_workers(settings: Settings) -> dict[str, str]:
    """The environment of a worker: the settings as they are in effect, and nothing else that could be one."""
    kept = {
        name: text
        for name, text in os.environ.items()
        if name not in KNOWN and not is_foreign(name) and name not in _OURS and name.removesuffix("_FILE") not in KNOWN
    }
    # the worker finds what this process finds, wherever that was started from
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    return kept | environ_of(settings)


def _fault(text: str) -> OperationFault:
    members = json.decode(text.encode())
    return OperationFault(members["code"], members["message"], members.get("field"))
