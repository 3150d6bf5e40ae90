"""Answers of the HTTP API: always JSON, errors always of one shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from mechamap_rt.wire import json


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer, ready to be written."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json; charset=utf-8"

    @classmethod
    def of(cls, value: Any, status: int = 200) -> Reply:
        return cls(json.encode(value), status)


class Error(Enum):
    """What may go wrong: HTTP status and code."""

    VALIDATION = (400, "VALIDATION_ERROR")
    UNAUTHORIZED = (401, "UNAUTHORIZED")
    FORBIDDEN = (403, "FORBIDDEN")
    NOT_FOUND = (404, "NOT_FOUND")
    METHOD = (405, "METHOD_NOT_ALLOWED")
    CONFLICT = (409, "CONFLICT")
    TOO_SLOW = (408, "REQUEST_TIMEOUT")
    TOO_LARGE = (413, "PAYLOAD_TOO_LARGE")
    MEDIA_TYPE = (415, "UNSUPPORTED_MEDIA_TYPE")
    KEY_REUSED = (422, "IDEMPOTENCY_KEY_REUSED")
    RATE_LIMITED = (429, "RATE_LIMITED")
    HEADERS_TOO_LARGE = (431, "HEADERS_TOO_LARGE")
    SERVER = (500, "SERVER_ERROR")
    UNAVAILABLE = (503, "UNAVAILABLE")

    def __init__(self, status: int, code: str) -> None:
        self.status = status
        self.code = code


class HTTPFault(Exception):
    """A request that is answered with an error.

    :param details: every field that is wrong, with why.
    """

    def __init__(
        self,
        error: Error,
        message: str,
        details: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.error = error
        self.message = message
        self.details = details
        self.headers = dict(headers or {})

    def reply(self) -> Reply:
        body: dict[str, Any] = {"success": False, "error": self.error.code, "message": self.message}
        if self.details:
            body["details"] = [{"field": name, "message": why} for name, why in self.details]
        return Reply(json.encode(body), self.error.status, self.headers)
