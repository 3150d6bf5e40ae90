"""Static files: whatever a path says, it is one of the files that were read at the start, or nothing."""

from __future__ import annotations

import pytest

from tests.abuse.raw import exchange
from tests.server import Server

UP = (
    "/console/../app.py",
    "/console/../../app.py",
    "/console/../console/index.html",
    "/console/./index.html",
    "/console/%2e%2e/%2e%2e/app.py",
    "/console/%2E%2E%2F%2E%2E%2Fapp.py",
    "/console/..%2f..%2fapp.py",
    "/console/%252e%252e%252fapp.py",
    "/console/..%252fapp.py",
    "/console/..%5c..%5capp.py",
    "/console/..\\..\\app.py",
    "/console/%c0%ae%c0%ae/app.py",
    "/console/%uff0e%uff0e/app.py",
    "/console/....//....//app.py",
    "/console/..;/app.py",
    "/console//etc/passwd",
    "//etc/passwd",
    "/etc/passwd",
    "/console/%2fetc%2fpasswd",
    "/console/file:///etc/passwd",
    "/console/index.html%00",
    "/console/index.html%00.js",
    "/console/%00",
    "/console/index.html/",
    "/console/index.html/..",
    "/console/.",
    "/console/..",
    "/console/__init__.py",
    "/socket.io/../console/../app.py",
    "/socket.io/%2e%2e/%2e%2e/app.py",
    "/static/console/index.html",
    "/api/../console/../../app.py",
)


@pytest.mark.parametrize("path", UP)
def test_no_path_leads_anywhere_else(server: Server, path: str) -> None:
    for method in ("GET", "POST"):
        request = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        answered = exchange(server.port, request.encode())
        assert len(answered.statuses) == 1
        assert answered.statuses[0] in (400, 401, 403, 404, 405), answered
        body = b"".join(answered.bodies)
        assert not any(text in body for text in (b"root:", b"import ", b"<html", b"<!doctype")), body
    assert "Traceback" not in server.output()


def test_the_files_themselves_are_there(server: Server) -> None:
    for path in ("/console", "/console/", "/console/index.html", "/console/main.js"):
        assert server.get(path).status_code == 200
