"""Alerts on their way to people: by a webhook, and by mail."""

from __future__ import annotations

import hashlib
import hmac
import socket
import time
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from mechamap_rt.interfaces import IReactor
from mechamap_rt.process.alerts import Alert
from mechamap_rt.settings.alerting import Alerting
from mechamap_rt.wire import json

_log = Logger()

#: Alerts that wait for one way; more are forgotten, the oldest first.
MAX_WAITING: Final = 100
#: Seconds after which an alert that could not be told is told again; after the last it is given up.
PAUSES: Final = (1.0, 5.0, 15.0, 60.0, 300.0)
#: Seconds for one try.
LIMIT: Final = 10.0

Way = Callable[[Alert], Awaitable[None]]


class Notices:
    """Tells every alert by every way that is set, in order; what cannot be told now is tried again."""

    def __init__(self, reactor: IReactor, settings: Alerting) -> None:
        self._ways: list[_Line] = []
        if settings.webhook_url:
            self._ways.append(_Line(reactor, "the webhook", Webhook(reactor, settings).tell))
        if settings.email_to:
            self._ways.append(_Line(reactor, "mail", Mail(reactor, settings).tell))

    def note(self, alert: Alert) -> None:
        """Tell this one; nobody waits for it."""
        for way in self._ways:
            way.add(alert)

    def stop(self) -> None:
        """What waits is told to nobody any more."""
        for way in self._ways:
            way.stop()


class _Line:
    """What waits for one way."""

    def __init__(self, reactor: IReactor, name: str, way: Way) -> None:
        self._reactor = reactor
        self._name = name
        self._way = way
        self._waiting: deque[Alert] = deque(maxlen=MAX_WAITING)
        self._telling: Deferred[None] | None = None

    def add(self, alert: Alert) -> None:
        self._waiting.append(alert)
        if self._telling is None:
            self._telling = Deferred.fromCoroutine(self._tell_all())
            self._telling.addErrback(lambda reason: None)

    def stop(self) -> None:
        self._waiting.clear()
        if self._telling is not None:
            self._telling.cancel()

    async def _tell_all(self) -> None:
        try:
            while self._waiting:
                await self._tell(self._waiting.popleft())
        finally:
            self._telling = None

    async def _tell(self, alert: Alert) -> None:
        for pause in (*PAUSES, None):
            try:
                await self._way(alert)
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"[:300]
                if pause is None:
                    _log.error(
                        "Alert {name} was not told by {way}, and is given up: {reason}",
                        name=alert["name"],
                        way=self._name,
                        reason=reason,
                    )
                    return
                _log.warn(
                    "Alert {name} could not be told by {way}, again in {pause:g} s: {reason}",
                    name=alert["name"],
                    way=self._name,
                    pause=pause,
                    reason=reason,
                )
                await deferLater(self._reactor, pause)
            else:
                return


class Webhook:
    """Posts an alert: ``{"alert": {…}, "text": "…"}``, where ``text`` is what chat services show."""

    def __init__(self, reactor: IReactor, settings: Alerting) -> None:
        self._reactor = reactor
        self._settings = settings

    async def tell(self, alert: Alert) -> None:
        # what it takes is only for those who are told something
        from mechamap_rt.auth.exchange import Exchange

        settings = self._settings
        body = json.encode({"alert": shown(alert), "text": sentence(alert)})
        headers = {"Content-Type": "application/json"}
        if settings.webhook_secret:
            signature = hmac.new(settings.webhook_secret.encode(), body, hashlib.sha256).hexdigest()
            headers["X-Signature-256"] = f"sha256={signature}"
        exchange = Exchange(self._reactor, settings.webhook_url, LIMIT, 1, None)
        try:
            status, _ = await exchange.post("", headers, body)
        finally:
            await exchange.close()
        if not 200 <= status < 300:
            raise RuntimeError(f"it answered {status}")


class Mail:
    """Sends an alert as a mail, with STARTTLS where the server has it."""

    def __init__(self, reactor: IReactor, settings: Alerting) -> None:
        self._reactor = reactor
        self._settings = settings

    async def tell(self, alert: Alert) -> None:
        # what it takes is only for those who are told something
        from twisted.mail.smtp import sendmail

        settings = self._settings
        sender = settings.email_from or f"mechamap@{socket.gethostname()}"
        message = EmailMessage()
        message["Subject"] = f"[mechamap] {alert['state']}: {alert['name']}"
        message["From"] = sender
        message["To"] = ", ".join(settings.email_to)
        message["Date"] = format_datetime(datetime.now(UTC))
        message["Message-ID"] = make_msgid(domain=sender.rpartition("@")[2])
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(
            "\n".join([sentence(alert), "", *(f"{key}: {value}" for key, value in shown(alert).items())])
        )
        sending = sendmail(
            settings.smtp_host.encode(),
            sender,
            list(settings.email_to),
            message.as_bytes(),
            port=settings.smtp_port,
            reactor=self._reactor,
            username=settings.smtp_user.encode() or None,
            password=settings.smtp_password.encode() or None,
            requireAuthentication=bool(settings.smtp_user),
            requireTransportSecurity=settings.smtp_tls,
        )
        await sending.addTimeout(LIMIT, self._reactor)


def sentence(alert: Alert) -> str:
    """One line for people."""
    at = f" at {alert['host']}" if alert["host"] else ""
    if alert["state"] == "raised":
        return f"ALERT {alert['name']}{at}: {alert['message']}"
    lasted = alert["until"] - alert["since"]
    return f"Cleared: {alert['name']}{at}, after {lasted:.0f} s (it was: {alert['message']})"


def shown(alert: Alert) -> dict[str, Any]:
    """An alert with its moments as text."""
    moments = {name: None if alert[name] is None else _moment(alert[name]) for name in ("since", "until")}
    return alert | moments


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
