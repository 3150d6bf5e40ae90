"""Answers of the API as the description has them: headers, and what may go wrong where."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from mechamap_rt.http.openapi.operation import Operation
from mechamap_rt.http.openapi.schemas import ERRORS, Schema, const, fault, ref
from mechamap_rt.http.replies import Error

_WHOLE: Final[Schema] = {"type": "integer", "minimum": 0}


def _header(description: str, schema: Schema, *, required: bool = False) -> dict[str, Any]:
    return {"description": description, "schema": schema} | ({"required": True} if required else {})


HEADERS: Final[dict[str, Any]] = {
    "X-Request-ID": _header(
        "The request's id: the caller's, or one of the server's.", {"type": "string"}, required=True
    ),
    "X-RateLimit-Limit": _header("Requests of a window. All of these only where requests are limited.", _WHOLE),
    "X-RateLimit-Remaining": _header("Requests that are left in this window.", _WHOLE),
    "X-RateLimit-Reset": _header("When the window ends: a second of the epoch.", _WHOLE),
    "RateLimit-Policy": _header("Requests, and seconds of a window: `300;w=60`.", {"type": "string"}),
    "RateLimit-Remaining": _header("As `X-RateLimit-Remaining`.", _WHOLE),
    "RateLimit-Reset": _header("Seconds until the window ends.", _WHOLE),
    "Idempotent-Replayed": _header("Only on the answer of the time before.", const("true")),
    "Retry-After": _header("Seconds after which to come again.", _WHOLE | {"minimum": 1}, required=True),
    "Allow": _header("The methods of the path.", {"type": "string"}, required=True),
    "WWW-Authenticate": _header("`Bearer`.", {"type": "string"}, required=True),
}
_LIMITS: Final = tuple(name for name in HEADERS if "RateLimit-" in name)
_OF_ERRORS: Final = {
    Error.UNAUTHORIZED: ("WWW-Authenticate",),
    Error.METHOD: ("Allow",),
    Error.CONFLICT: ("Retry-After",),
    Error.RATE_LIMITED: ("Retry-After",),
    Error.UNAVAILABLE: ("Retry-After",),
}


def _headers(names: Sequence[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def response(
    description: str, each: Operation, exempt: bool, more: Sequence[str] = (), schema: Schema | None = None
) -> dict[str, Any]:
    """An answer that is no error.

    :param exempt: is the path outside the limit on requests?
    :param more: further headers.
    :param schema: of another body than that of 200.
    """
    names = ("X-Request-ID", *more, *(() if exempt else _LIMITS))
    body = each.answer if schema is None else schema
    return {"description": description, "headers": _headers(names), "content": {each.media_type: {"schema": body}}}


def responses() -> dict[str, Any]:
    """Every error, by its code."""
    return {
        error.code: {
            "description": description,
            "headers": _headers(("X-Request-ID", *_OF_ERRORS.get(error, ()), *_LIMITS)),
            "content": {"application/json": {"schema": {"allOf": [ref("Error"), fault(const(error.code))]}}},
        }
        for error, description in ERRORS.items()
    }


def errors_of(each: Operation, exempt: bool) -> Iterator[Error]:
    """What may go wrong there.

    :param exempt: is the path outside the limit on requests?
    """
    keyed, variable, has_body = each.who.keyed, "<" in each.path, each.body is not None
    if keyed or variable or has_body or each.query:
        yield Error.VALIDATION
    yield from each.who.refuses
    if variable:
        yield Error.NOT_FOUND
    yield from (Error.METHOD, Error.TOO_SLOW)
    if each.idempotent:
        yield from (Error.CONFLICT, Error.KEY_REUSED)
    if has_body:
        yield from (Error.TOO_LARGE, Error.MEDIA_TYPE)
    if keyed or not exempt:
        yield Error.RATE_LIMITED
    yield from (Error.HEADERS_TOO_LARGE, Error.SERVER)
    if keyed or each.method != "GET":
        yield Error.UNAVAILABLE
