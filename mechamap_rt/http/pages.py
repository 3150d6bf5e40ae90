"""Files that ship with the package: the demo console, and the socket.io client where it was built in.

They are few and small, so they are read once and answered from memory.
"""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from mechamap_rt.http.replies import Error, HTTPFault, Reply
from mechamap_rt.http.request import RealtimeRequest

_TYPES: Final = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".map": "application/json"}


class Page(Resource):
    """One file, answered from memory."""

    isLeaf = True

    def __init__(self, body: bytes, content_type: str) -> None:
        super().__init__()
        self._body = body
        self._content_type = content_type
        self._etag = '"' + hashlib.sha256(body).hexdigest()[:32] + '"'

    def render(self, request: RealtimeRequest) -> int:
        if request.method not in (b"GET", b"HEAD"):
            fault = HTTPFault(Error.METHOD, "Allowed here: GET, HEAD", headers={"Allow": "GET, HEAD"})
            request.answer(fault.reply(), request.protection.data)
            return NOT_DONE_YET
        headers = {"ETag": self._etag, "Cache-Control": "no-cache"}
        if request.header("if-none-match") == self._etag:
            request.answer(Reply(b"", 304, headers, self._content_type), request.protection.page)
        else:
            request.answer(Reply(self._body, 200, headers, self._content_type), request.protection.page)
        return NOT_DONE_YET


def pages(directory: str) -> Mapping[str, Page]:
    """The files of ``static/<directory>``, by name; empty when there is no such directory."""
    folder = files(__package__).joinpath("static", directory)
    if not folder.is_dir():
        return {}
    return {entry.name: _page(entry) for entry in folder.iterdir() if entry.is_file() and entry.name[0] != "."}


def _page(entry: Traversable) -> Page:
    suffix = "." + entry.name.rpartition(".")[2]
    kind = _TYPES.get(suffix) or mimetypes.guess_type(entry.name)[0] or "application/octet-stream"
    return Page(entry.read_bytes(), f"{kind}; charset=utf-8" if kind.startswith("text/") else kind)
