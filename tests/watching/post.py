"""Where alerts arrive: a mail server and a webhook, both real, in this process."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from email import message_from_bytes
from email.message import Message
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.redis_server import free_port

USER, PASSWORD = "operator", "a-password-of-the-mail-server"
SECRET = "a-secret-of-the-webhook-with-thirty-two"


class Mailbox:
    """An SMTP server on a free port that keeps what it is sent.

    :ivar refuse: answers that it gives first, instead of taking the mail.
    """

    def __init__(self, *, login: bool = False) -> None:
        self.mails: list[Message] = []
        self.recipients: list[list[str]] = []
        self.refuse: list[str] = []
        options: dict[str, Any] = {}
        if login:
            options = {"auth_required": True, "auth_require_tls": False, "authenticator": self._authenticate}
        self.port = free_port()
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port, **options)

    def __enter__(self) -> Self:
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()

    def _authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, given: Any
    ) -> AuthResult:
        good = isinstance(given, LoginPassword) and (given.login, given.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=good)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.refuse:
            return self.refuse.pop(0)
        assert isinstance(envelope.content, bytes)
        self.mails.append(message_from_bytes(envelope.content, policy=default))
        self.recipients.append(list(envelope.rcpt_tos))
        return "250 OK"


class Hook:
    """An HTTP server that keeps what is posted to it.

    :ivar statuses: that it answers first, before it answers 204.
    """

    def __init__(self) -> None:
        self.posts: list[dict[str, Any]] = []
        self.signed: list[bool] = []
        self.statuses: list[int] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = hook.statuses.pop(0) if hook.statuses else 204
                if status == 204:
                    mark = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
                    hook.signed.append(self.headers["X-Signature-256"] == f"sha256={mark}")
                    hook.posts.append(json.loads(body))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """The tests say what there is to say."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/hooks/mechamap"
