"""Requests that two readers may read in two ways (RFC 9112, "Request Smuggling", section 11.2).

``{key}`` is the backend's key. Inside many is another request, :data:`SMUGGLED`, which only who reads wrongly sees.
"""

from __future__ import annotations

JSON = b'{"channel":"public.x","event":"e"}'
SMUGGLED = b"GET /api/status HTTP/1.1\r\nHost: x\r\n\r\n"
HOST = b"Host: 127.0.0.1\r\n"
TYPE = b"Content-Type: application/json\r\nX-WebSocket-API-Key: {key}\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(JSON)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
END = b"0\r\n\r\n"
CHUNKS = b"%x\r\n%b\r\n" % (len(JSON), JSON)


def post(headers: bytes, body: bytes, version: bytes = b"1.1", target: bytes = b"/api/broadcast") -> bytes:
    return b"POST " + target + b" HTTP/" + version + b"\r\n" + HOST + TYPE + headers + b"\r\n" + body


def get(headers: bytes, target: bytes = b"/live", host: bytes = HOST, version: bytes = b"1.1") -> bytes:
    return b"GET " + target + b" HTTP/" + version + b"\r\n" + host + headers + b"\r\n"


#: Read in the one way there is, and answered: the status.
SOUND: dict[str, tuple[bytes, int]] = {
    "a length": (post(LENGTH, JSON), 200),
    "chunks": (post(CHUNKED, CHUNKS + END), 200),
    "chunked in capitals": (post(b"Transfer-Encoding: CHUNKED\r\n", CHUNKS + END), 200),
    "a chunk extension": (post(CHUNKED, CHUNKS.replace(b"\r\n", b";a=1;b\r\n", 1) + END), 200),
    "trailers": (post(CHUNKED, CHUNKS + b"0\r\nX-Late: 1\r\n\r\n"), 200),
    "a length with blanks around": (post(LENGTH.replace(b": ", b": \t ").replace(b"\r\n", b" \r\n"), JSON), 200),
    "a length with zeros": (post(LENGTH.replace(b": ", b": 000"), JSON), 200),
    "an absolute target": (get(b"", b"http://127.0.0.1/live"), 200),
    "an absolute target of another host": (get(b"", b"http://elsewhere.example/live?x"), 200),
    "an empty line before": (b"\r\n" + get(b""), 200),
    "two slashes": (get(b"", b"//live"), 404),
    "no host in HTTP/1.0": (b"GET /live HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200),
}

#: Refused with 400 (or what is said), and the connection ended.
UNSOUND: dict[str, bytes] = {
    "length and chunks": post(b"Content-Length: 5\r\n" + CHUNKED, END + SMUGGLED),
    "chunks and length": post(CHUNKED + b"Content-Length: 5\r\n", END + SMUGGLED),
    "two lengths": post(b"Content-Length: 0\r\n" + LENGTH, JSON),
    "two lengths, the other way": post(LENGTH + b"Content-Length: 0\r\n", SMUGGLED),
    "two equal lengths": post(LENGTH + LENGTH, JSON),
    "two lengths in a line": post(b"Content-Length: 34, 34\r\n", JSON),
    "a length with a plus": post(b"Content-Length: +34\r\n", JSON),
    "a length with a minus": post(b"Content-Length: -34\r\n", JSON),
    "a length in hexadecimal": post(b"Content-Length: 0x22\r\n", JSON),
    "a length with an underscore": post(b"Content-Length: 3_4\r\n", JSON),
    "a length in other digits": post("Content-Length: ３４\r\n".encode(), JSON),
    "a length that is empty": post(b"Content-Length:\r\n", SMUGGLED),
    "a length in two parts": post(b"Content-Length: 3 4\r\n", JSON),
    "a length of very many digits": post(b"Content-Length: " + b"9" * 5000 + b"\r\n", b""),
    "xchunked": post(b"Transfer-Encoding: xchunked\r\n", END + SMUGGLED),
    "chunked, identity": post(b"Transfer-Encoding: chunked, identity\r\n", END + SMUGGLED),
    "identity, chunked": post(b"Transfer-Encoding: identity, chunked\r\n", END + SMUGGLED),
    "identity": post(b"Transfer-Encoding: identity\r\n" + LENGTH, JSON),
    "gzip, chunked": post(b"Transfer-Encoding: gzip, chunked\r\n", END + SMUGGLED),
    "chunked twice": post(CHUNKED * 2, END + SMUGGLED),
    "chunked and identity": post(CHUNKED + b"Transfer-Encoding: identity\r\n", END + SMUGGLED),
    "chunked in quotes": post(b'Transfer-Encoding: "chunked"\r\n', END + SMUGGLED),
    "chunked with a vertical tab": post(b"Transfer-Encoding: \x0bchunked\r\n", END + SMUGGLED),
    "chunked with a parameter": post(b"Transfer-Encoding: chunked;q=1\r\n", END + SMUGGLED),
    "an empty coding": post(b"Transfer-Encoding:\r\n", SMUGGLED),
    "chunks in HTTP/1.0": post(CHUNKED, CHUNKS + END, b"1.0"),
    "chunks and a length in HTTP/1.0": post(CHUNKED + LENGTH, JSON + SMUGGLED, b"1.0"),
    "a blank before the colon": post(b"Content-Length : 34\r\n", JSON),
    "a blank before the colon of the coding": post(b"Transfer-Encoding : chunked\r\n" + LENGTH, JSON),
    "a tab before the colon": post(b"Content-Length\t: 34\r\n", JSON),
    "a line without a colon": post(b"Content-Length 34\r\n", JSON),
    "a name that is empty": post(b": x\r\n" + LENGTH, JSON),
    "a folded line": post(b"X-A: b\r\n c\r\n" + LENGTH, JSON),
    "a folded length": post(b"X-A: b\r\n Content-Length: 0\r\n" + LENGTH, JSON),
    "a folded coding": post(b"Transfer-Encoding:\r\n chunked\r\n", END + SMUGGLED),
    "a folded first line": b"GET /live HTTP/1.1\r\n Host: x\r\nHost: x\r\n\r\n",
    "line feeds alone": get(b"").replace(b"\r\n", b"\n"),
    "line feeds alone in a POST": post(LENGTH, b"").replace(b"\r\n", b"\n") + JSON,
    "a line feed in a value": post(b"X-A: b\nContent-Length: 0\r\n" + LENGTH, JSON),
    "a line feed at the end": post(LENGTH, b"")[:-4] + b"\n\n" + JSON,
    "carriage returns alone": get(b"").replace(b"\r\n", b"\r"),
    "a carriage return in a value": post(b"X-A: b\rContent-Length: 0\r\n" + LENGTH, JSON),
    "a carriage return before the colon": post(b"X-A\r: b\r\n" + LENGTH, JSON),
    "NUL in a value": post(b"X-A: b\0c\r\n" + LENGTH, JSON),
    "NUL in a name": post(b"X\0A: b\r\n" + LENGTH, JSON),
    "NUL in the target": get(b"", b"/live\0x"),
    "NUL in the method": b"GE\0T /live HTTP/1.1\r\nHost: x\r\n\r\n",
    "NUL first": b"\0" + get(b""),
    "a size with a plus": post(CHUNKED, b"+" + CHUNKS + END),
    "a size with 0x": post(CHUNKED, b"0x" + CHUNKS + END),
    "a size with a minus": post(CHUNKED, b"-1\r\nx\r\n" + END),
    "a size with a blank before": post(CHUNKED, b" " + CHUNKS + END),
    "a size that is no number": post(CHUNKED, b"G\r\nx\r\n" + END),
    "a size that is empty": post(CHUNKED, b"\r\nx\r\n" + END),
    "a size with a line feed": post(CHUNKED, CHUNKS.replace(b"\r\n", b"\n", 1) + END),
    "an extension with a line feed": post(CHUNKED, b"0;a\nb\r\n\r\n" + SMUGGLED),
    "an extension with a carriage return": post(CHUNKED, b"0;a\rb\r\n\r\n" + SMUGGLED),
    "an extension without an end": post(CHUNKED, b"5;" + b"a" * 5000),
    "more in a chunk than its size": post(CHUNKED, b"1\r\n" + JSON + b"\r\n" + END),
    "chunks that end with line feeds": post(CHUNKED, CHUNKS.replace(b"\r\n", b"\n") + b"0\n\n"),
    "no host": get(b"", host=b""),
    "two hosts": get(b"", host=HOST * 2),
    "two different hosts": get(b"", host=HOST + b"Host: elsewhere.example\r\n"),
    "a host with a blank": get(b"", host=b"Host: a b\r\n"),
    "a host with a path": get(b"", host=b"Host: a/b\r\n"),
    "a host with a user": get(b"", host=b"Host: a@b\r\n"),
    "a target without a slash": get(b"", b"live"),
    "a target of another scheme": get(b"", b"ftp://127.0.0.1/live"),
    "an authority as target": b"CONNECT 127.0.0.1:80 HTTP/1.1\r\nHost: x\r\n\r\n",
    "two blanks": b"GET  /live HTTP/1.1\r\nHost: x\r\n\r\n",
    "a tab": b"GET\t/live HTTP/1.1\r\nHost: x\r\n\r\n",
    "a blank first": b" GET /live HTTP/1.1\r\nHost: x\r\n\r\n",
    "a blank in the target": get(b"", b"/live x"),
    "a blank at the end": b"GET /live HTTP/1.1 \r\nHost: x\r\n\r\n",
    "HTTP/0.9": b"GET /live\r\n\r\n",
    "HTTP/1.2": get(b"", version=b"1.2"),
    "HTTP/2.0": get(b"", version=b"2.0"),
    "http": b"GET /live http/1.1\r\nHost: x\r\n\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(64)),
}
#: Answers other than 400: the size is what is wrong.
OTHERWISE = {"a size that is too large": (post(CHUNKED, b"FFFFFFFFFFFFFFFFF\r\nx"), 413)}

#: Handshakes and polls, whose heads are read by shorter ways.
UPGRADE = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
)
#: What follows one of them as if it were its body, and would be frames, or another request.
ODD_HEADERS: dict[str, bytes] = {
    "a length": b"Content-Length: 37\r\n",
    "chunks": CHUNKED,
    "a line feed in a value": b"X-A: b\nContent-Length: 37\r\n",
    "a carriage return in a value": b"X-A: b\rContent-Length: 37\r\n",
    "a blank before the colon": b"Content-Length : 37\r\n",
    "a folded line": b"X-A: b\r\n Content-Length: 37\r\n",
    "NUL": b"X-A: b\0\r\n",
    "two hosts": HOST,
    "a line without a colon": b"Content-Length 37\r\n",
}
