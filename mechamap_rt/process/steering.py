"""Steering the workers: what an operator asks, what automatic scaling wants, and what has to be told to somebody."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mechamap_rt.errors import OperationFault
from mechamap_rt.interfaces import IReactor
from mechamap_rt.process import certificate
from mechamap_rt.process.acts import BY_SIGNAL, NO_MANHOLE, RELOAD, noted
from mechamap_rt.process.backoff import CrashLoop
from mechamap_rt.process.child import Child, State
from mechamap_rt.process.crew import MAX_WORKERS, Crew
from mechamap_rt.process.helm import unpacked
from mechamap_rt.process.operations import integer
from mechamap_rt.process.orders import Operate, Refused
from mechamap_rt.process.overview import Overview
from mechamap_rt.process.scaling import Scaler
from mechamap_rt.process.serverlog import ServerLog
from mechamap_rt.process.watchman import Watchman
from mechamap_rt.settings import Settings, SettingsError, environ_of, load
from mechamap_rt.system.audit import AuditLog, audit_file, fault_of
from mechamap_rt.system.linefile import LineFile
from mechamap_rt.system.notify import Notifier
from mechamap_rt.wire import json

if TYPE_CHECKING:
    from mechamap_rt.process.manhole import Ways
    from mechamap_rt.settings.credentials import Credentials
    from mechamap_rt.system.renewal import Renewal

_log = Logger()

#: The longest drain that can be asked for, in seconds.
MAX_DRAIN: Final = 3600

#: Tells the operator what is going on.
Say = Callable[[dict[str, Any]], object]


class Steering:
    """Commands to the crew, one at a time.

    :param env_file: where the settings are read from again at a reload, besides the environment.
    :param renewal: watches the server's certificate; ``None`` without TLS.
    :ivar stopping: the server goes down.
    """

    def __init__(
        self,
        reactor: IReactor,
        crew: Crew,
        settings: Settings,
        env_file: Path | None,
        notifier: Notifier,
        audit: AuditLog,
        log: ServerLog,
        renewal: Renewal | None = None,
    ) -> None:
        self._reactor = reactor
        self._crew = crew
        self._settings = settings
        self._bound = settings.server
        self._env_file = env_file
        self._notifier = notifier
        self._audit = audit
        self._log = log
        self._renewal = renewal
        self._scaler = self._make_scaler()
        # replacing a worker that has too much memory from its start on would only send its clients around
        self._relief = CrashLoop(reactor.seconds, shortest=30.0, longest=600.0)
        self._no_relief_before = 0.0
        self._watchman = Watchman(reactor, settings, crew.host, partial(self._operate, "publish"))
        self._overview = Overview(crew, self._watchman.alerts, renewal, reactor)
        self._busy = ""
        self._reloads = 0
        self.stopping = False
        #: To the shells of this host; ``None`` without a manhole.
        self.ways: Ways | None = None
        self.alert = crew.alert = self._watchman.alerts.tell
        crew.steer = self.steer
        self._commands: Mapping[str, Callable[[Mapping[str, Any], Say], Any]] = {
            "status": self._status,
            "workers": self._workers,
            "reload": self._reload,
            "scale": self._scale,
            "restart": self._restart,
            "drain": self._drain,
            "errors": self._errors,
            "log-level": self._log_level,
            "manhole": self._manhole,
        }

    def stop(self) -> None:
        """The server goes down: nobody is told anything any more."""
        self._watchman.stop()

    async def run(self, command: str, asked: Mapping[str, Any], say: Say) -> dict[str, Any]:
        """Do what an operator asks.

        :raises OperationFault: it cannot be done.
        """
        own = self._commands.get(command)
        if own is not None:
            result: dict[str, Any] = await own(asked, say)
            return result
        return self._with_numbers(await self._operate(command, asked))

    async def steer(self, command: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The same, for an operator who has come by way of a worker, and hears only of the end."""
        if command not in self._commands:
            raise OperationFault("UNKNOWN_COMMAND", f"The master has no command {command}", "command")
        return await self.run(command, asked, lambda progress: None)

    async def _operate(self, command: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Have a worker do it."""
        serving = self._crew.serving()
        if not serving:
            raise OperationFault("NO_WORKER", "No worker is ready")
        try:
            answer = await serving[0].orders.callRemote(Operate, command=command, asked=json.encode(asked))
        except Refused as refused:
            raise unpacked(refused) from None
        result: dict[str, Any] = json.decode(answer["answer"])
        return result

    def _with_numbers(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Workers of this host by their numbers, which is how an operator knows them."""
        numbers = {child.name: child.number for child in self._crew.workers.values()}
        for row in answer.get("connections", ()):
            row["worker"] = numbers.get(row["worker"], row["worker"])
        return answer

    async def _alone(self, what: str, work: Callable[[], Any]) -> Any:
        """Do one thing to the workers at a time.

        :raises OperationFault: another is under way, or it failed.
        """
        if self._busy or self.stopping:
            raise OperationFault("BUSY", f"A {self._busy} is under way" if self._busy else "The server is stopping")
        self._busy = what
        try:
            return await work()
        except RuntimeError as error:
            raise OperationFault("FAILED", str(error)) from None
        finally:
            self._busy = ""

    def _background(self, what: str, work: Any) -> None:
        running = Deferred.fromCoroutine(work)
        failed = "The {what} was not done: {reason}"
        running.addErrback(lambda reason: _log.error(failed, what=what, reason=reason.getErrorMessage()))

    # watching

    def look(self) -> None:
        """Look after the workers; called every second or so."""
        fat = self._crew.check()
        for child in fat:
            self._relieve(child)
        if not fat:
            self._relief.alive_for(min((child.uptime for child in self._crew.current()), default=0.0))
            self.alert("memory_limit", None)
        warning = self._settings.tls.expiry_warning
        for name, message in certificate.alerts(self._overview.certificate(), warning, time.time()).items():
            self.alert(name, message)
        serving = self._crew.serving()
        self._watchman.look({child.name: child.figures for child in serving})
        self._overview.tell(serving, self._state, self._reloads)
        if not serving or self._busy:
            return
        samples = [(child.figures.get("cpu", 0.0), child.figures.get("lag", 0.0)) for child in serving]
        had, wanted = self._crew.wanted, self._scaler.observe(samples)
        if wanted != had:
            _log.info("From {had} workers to {wanted}: {reason}", wanted=wanted, had=had, reason=self._scaler.reason)
            self._background("scaling", self._rescale(wanted))

    def _relieve(self, child: Child) -> None:
        """A worker has more memory than it should."""
        now = self._reactor.seconds()
        if self._busy or now < self._no_relief_before:
            return
        self._no_relief_before = now + self._relief.died(child.uptime)
        if self._relief.looping:
            self.alert("memory_limit", "Workers have more memory than MEMORY_LIMIT soon after their start")
        _log.warn(
            "Worker {worker} has {rss} MB, over MEMORY_LIMIT: it is replaced",
            worker=child.number,
            rss=child.figures["rss"] // 2**20,
        )
        self._background("restart", self._alone("restart", partial(self._replace, child)))

    # what the service manager asks

    def hang_up(self) -> None:
        """SIGHUP: reload, unless it is all about the certificate."""
        self._background("reload", self._hang_up())

    async def _hang_up(self) -> None:
        renewal = self._renewal
        if renewal is not None and not self._busy and renewal.news and self._settings_again() == self._settings:
            self._notifier.reloading()
            try:
                await renewal.look_now()
            finally:
                self._notifier.ready()
            _log.info("SIGHUP: only the certificate has changed, so that nobody has to move")
            return
        with noted(self._audit, BY_SIGNAL, RELOAD, {}):
            await self._reload({}, lambda progress: _log.info("Reload: {text}", **progress))

    # telling

    async def _status(self, asked: Mapping[str, Any], say: Say) -> dict[str, Any]:
        return self._overview.described(self._state, self._reloads)

    @property
    def _state(self) -> str:
        return "stopping" if self.stopping else "reloading" if self._busy == "reload" else "running"

    async def _errors(self, asked: Mapping[str, Any], say: Say) -> dict[str, Any]:
        return {"errors": list(reversed(self._log.journal.errors))}

    async def _workers(self, asked: Mapping[str, Any], say: Say) -> dict[str, Any]:
        return {"workers": [child.describe() for child in self._crew.workers.values()]}

    async def _log_level(self, asked: Mapping[str, Any], say: Say) -> dict[str, Any]:
        levels = self._log.change_level(asked)
        return levels if asked.get("level") is None else levels | {"workers": await self._crew.tell_levels()}

    async def _manhole(self, asked: Mapping[str, Any], say: Say) -> dict[str, Any]:
        if self.ways is None:
            raise OperationFault("NO_MANHOLE", NO_MANHOLE)
        return self.ways.described(asked)

    # reloading

    async def _reload(self, asked: Mapping[str, Any], say: Say) -> dict[str, Any]:
        """New workers with new code and settings take the place of the old ones."""
        seconds = _drain_time(asked)
        result: dict[str, Any] = await self._alone("reload", partial(self._renew, seconds, say))
        return result

    async def _renew(self, seconds: float | None, say: Say) -> dict[str, Any]:
        began = self._reactor.seconds()
        crew = self._crew
        settings = self._settings_again()
        audit = self._audit_again(settings)
        self._log.check(settings)
        bound, now = self._bound, settings.server
        if (bound.host, bound.port, bound.listen) != (now.host, now.port, now.listen):
            _log.warn("HOST, PORT and LISTEN take effect with the next restart of the server")
            say({"text": "HOST, PORT and LISTEN have changed: that takes effect with the next restart of the server"})
        if settings.tls.enabled != self._settings.tls.enabled:
            # the workers of both generations accept from the same sockets
            _log.warn("SSL_ENABLED takes effect with the next restart of the server")
            say({"text": "SSL_ENABLED has changed: that takes effect with the next restart of the server"})
            settings = replace(settings, tls=self._settings.tls)
        if settings.manhole != self._settings.manhole:
            _log.warn("MANHOLE_... takes effect with the next restart of the server")
            say({"text": "Settings of the manhole have changed: that takes effect with the next restart of the server"})
            settings = replace(settings, manhole=self._settings.manhole)
        credentials = await self._credentials(settings)
        if seconds is None:
            seconds = settings.cluster.drain_time
        # an operator's scaling outlives a reload, unless the range has changed
        wanted = crew.wanted if settings.cluster == self._settings.cluster else start_range(settings)[1]
        self._notifier.reloading()
        try:
            done = await crew.renew(settings, wanted, seconds, lambda text: say({"text": text}), credentials)
            if self._renewal is not None and credentials is not None:
                self._renewal.move(settings.tls.cert_path, settings.tls.key_path, credentials)
        finally:
            self._notifier.ready()
            if self._renewal is not None and self._renewal.current is not None:
                # it may have been renewed while the workers were
                await crew.certify(self._renewal.current)
        if settings.audit != self._settings.audit:
            self._audit.move(audit)
        if settings.alerting != self._settings.alerting:
            self._watchman.settle(settings)
        if settings.log != self._settings.log:
            self._log.reload(settings)
            await crew.tell_levels()
        self._settings = settings
        self._scaler = self._make_scaler()
        self._reloads += 1
        took = round(self._reactor.seconds() - began, 2)
        _log.info("Reloaded in {seconds} s: workers {new} instead of {old}", seconds=took, **done)
        return {"seconds": took} | done

    async def _credentials(self, settings: Settings) -> Credentials | None:
        """The certificate of a new generation.

        :raises OperationFault: it cannot be used.
        """
        if self._renewal is None:
            return None
        from mechamap_rt.settings.credentials import CredentialsError

        try:
            return await self._renewal.elsewhere(settings.tls.cert_path, settings.tls.key_path)
        except CredentialsError as error:
            raise OperationFault("BAD_SETTINGS", str(error)) from None

    def _settings_again(self) -> Settings:
        """The settings as they are now; secrets that were made up stay the same.

        :raises OperationFault: they are not valid; everything stays as it is.
        """
        made_up = {name: text for name, text in environ_of(self._settings).items() if name in self._settings.generated}
        try:
            settings = load(os.environ, self._env_file, made_up).settings
        except SettingsError as error:
            raise OperationFault("BAD_SETTINGS", "; ".join(str(fault) for fault in error.faults)) from None
        return settings

    def _audit_again(self, settings: Settings) -> LineFile | None:
        """The file of the audit log as it is now.

        :raises OperationFault: there is to be one in production, and it cannot be opened.
        """
        file = audit_file(settings, os.environ)
        if file is not None and settings.server.production:
            try:
                file.open()
            except OSError as error:
                raise OperationFault("BAD_SETTINGS", fault_of(file, error)) from None
            file.close()
        return file

    # the number of workers

    async def _scale(self, asked: Mapping[str, Any], say: Say) -> dict[str, Any]:
        before = self._crew.wanted
        text = str(asked.get("to"))
        digits = text.removeprefix("+").removeprefix("-")
        if not (digits.isascii() and digits.isdigit()) or len(digits) > 4:
            raise OperationFault("INVALID", "A number, +1 or -1 is required", "to")
        wanted = before + int(text) if text[0] in "+-" else int(text)
        if not 1 <= wanted <= MAX_WORKERS:
            raise OperationFault("INVALID", f"From 1 to {MAX_WORKERS} workers are possible", "to")
        await self._rescale(wanted)
        self._scaler = self._make_scaler()
        return {"from": before, "to": wanted}

    def _make_scaler(self) -> Scaler:
        """Automatic scaling, from what is wanted now; its bounds are widened to what an operator wanted."""
        cluster, wanted = self._settings.cluster, self._crew.wanted
        low, _, high = start_range(self._settings)
        return Scaler(
            min(low, wanted),
            max(high, wanted),
            cluster.scale_cpu,
            cluster.scale_lag,
            self._reactor.seconds,
            start=wanted,
            sustain=cluster.scale_sustain,
            cooldown=cluster.scale_cooldown,
        )

    async def _rescale(self, wanted: int) -> None:
        await self._alone("scale", partial(self._crew.scale, wanted, self._settings.cluster.drain_time))

    async def _restart(self, asked: Mapping[str, Any], say: Say) -> dict[str, Any]:
        child = self._worker(asked)
        say({"text": f"Starting a worker in the place of {child.number}"})
        return {"old": child.number, "new": await self._alone("restart", partial(self._replace, child))}

    async def _replace(self, child: Child) -> int:
        another, _ = await self._crew.replace(child, self._settings.cluster.drain_time)
        return another.number

    async def _drain(self, asked: Mapping[str, Any], say: Say) -> dict[str, Any]:
        """Take a worker out of service, without another in its place."""
        child = self._worker(asked)
        if len(self._crew.serving()) < 2:
            raise OperationFault("LAST_WORKER", "It is the only worker: restart replaces it, scale adds one", "worker")
        await self._alone("drain", partial(self._take_out, child))
        return {"worker": child.number}

    async def _take_out(self, child: Child) -> None:
        self._crew.wanted = max(1, self._crew.wanted - 1)
        self._scaler = self._make_scaler()
        await self._crew.retire(child, self._settings.cluster.drain_time)

    def _worker(self, asked: Mapping[str, Any]) -> Child:
        number = integer(asked, "worker", 1)
        child = self._crew.workers.get(number)
        if child is None or child.state not in (State.READY, State.STARTING):
            there = ", ".join(map(str, sorted(child.number for child in self._crew.serving())))
            raise OperationFault(
                "UNKNOWN_WORKER", f"There is no worker {number} in service; there are {there}", "worker"
            )
        return child


def start_range(settings: Settings) -> tuple[int, int, int]:
    """How many workers at least, at the start, and at most, on this host."""
    low, start, high = settings.cluster.worker_range(os.cpu_count() or 1)
    return low, min(start, MAX_WORKERS), min(high, MAX_WORKERS)


def _drain_time(asked: Mapping[str, Any]) -> float | None:
    seconds = asked.get("drain")
    if seconds is None:
        return None
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 <= seconds <= MAX_DRAIN:
        raise OperationFault("INVALID", f"From 0 to {MAX_DRAIN} seconds are possible", "drain")
    return float(seconds)
