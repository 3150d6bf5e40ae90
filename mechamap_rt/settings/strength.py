"""Is a secret one that somebody has made up at random, or one that can be guessed?

No proof of strength: it knows the placeholders of examples and manuals, and what has no variety. What a generator of
random bytes makes, in hexadecimal or base64 and of a legal length, it does not find (less than once in a million).
"""

from __future__ import annotations

import re
from typing import Final

#: How many different characters a secret must have; fewer if all of them are hexadecimal digits, of which 16 random
#: ones often have no more than seven.
VARIETY: Final = 8
HEX_VARIETY: Final = 5
#: Which part of a secret must be known words and runs for it to count as one.
TELLING: Final = 2 / 3
#: Characters of a run (``abcd``, ``4321``, ``xxxx``, ``qwer``), at least.
RUN: Final = 4

#: Characters of a piece that is looked for again.
LONGEST_PIECE: Final = 64

#: What placeholders are made of, in the letters that are left without signs between them.
WORDS: Final = (
    "admin", "administrator", "api", "app", "auth", "backend", "bar", "base64", "baz", "broadcast", "change",
    "changed", "changeit", "changeme", "characters", "client", "database", "default", "demo", "dev", "development",
    "dummy", "enter", "env", "example", "fake", "foo", "foobar", "generate", "here", "hunter2", "insert",
    "internal", "ipsum", "jwt", "key", "keys", "laravel", "least", "letmein", "local", "localhost", "login",
    "long", "lorem", "master", "matkhau", "mechamap", "minimum", "must", "mysql", "nodejs", "nopassword", "not",
    "p4ssw0rd", "passphrase", "passw0rd", "passwd", "password", "passwort", "phrase", "placeholder", "please",
    "private", "prod", "production", "put", "random", "realtime", "redis", "replace", "root", "s3cret", "sample",
    "secret", "secure", "server", "service", "set", "site", "socket", "some", "staging", "string", "strong",
    "super", "test", "testing", "that", "the", "this", "todo", "token", "undefined", "unset", "user", "using",
    "value", "very", "webhook", "websocket", "welcome", "with", "your",
)  # fmt: skip
#: Rows of keyboards, and orders in which one types without thinking.
_ROWS: Final = ("qwertyuiop", "asdfghjkl", "zxcvbnm", "qwertzuiop", "azertyuiop", "1qaz2wsx3edc4rfv", "1q2w3e4r5t6y")
_SIGNS = re.compile(r"[\W_]+")
_HEX = re.compile(r"[0-9a-fA-F]+")
_TEMPLATE = re.compile(r"<[\w .:-]*>|\[[\w .:-]*\]|\$?\{+[\w .:-]*\}+|\$[A-Z_]+|%\w+%")
_PREFIX = "base64:"
_WORDS: Final = tuple(sorted(WORDS, key=len, reverse=True))


def without_prefix(secret: str) -> str:
    """The secret without ``base64:``, with which Laravel marks how its own are written."""
    return secret.removeprefix(_PREFIX)


def weakness(secret: str) -> str | None:
    """Why a secret, which is not empty, can be guessed; ``None`` where nothing speaks for it.

    The answer continues "<name> …" and has nothing of the secret in it.
    """
    text = without_prefix(secret)
    if _is_example(text):
        return "must be made up at random: it is an example, or made of words that examples are made of"
    if _is_monotonous(text):
        return "must be made up at random: it has too few different characters, or repeats itself"
    return None


def _is_example(text: str) -> bool:
    if _TEMPLATE.fullmatch(text.strip()):
        return True
    letters = _SIGNS.sub("", text).lower()
    if not letters:
        # signs alone, or nothing: there is no such secret
        return len(set(text)) < VARIETY
    known = bytearray(len(letters))
    for word in _WORDS:
        at = letters.find(word)
        while at >= 0:
            known[at : at + len(word)] = b"\1" * len(word)
            at = letters.find(word, at + 1)
    _mark_runs(letters, known)
    return sum(known) >= TELLING * len(letters)


def _mark_runs(letters: str, known: bytearray) -> None:
    """Mark the characters that follow from those before them: equal, ascending, descending, or along a keyboard."""
    for step in (0, 1, -1):
        begin = 0
        for at in range(1, len(letters) + 1):
            if at < len(letters) and ord(letters[at]) - ord(letters[at - 1]) == step:
                continue
            _mark(known, begin, at)
            begin = at
    for row in (*_ROWS, *(row[::-1] for row in _ROWS)):
        begin = 0
        for at in range(1, len(letters) + 1):
            if at < len(letters) and letters[at - 1 : at + 1] in row:
                continue
            _mark(known, begin, at)
            begin = at


def _mark(known: bytearray, begin: int, end: int) -> None:
    if end - begin >= RUN:
        known[begin:end] = b"\1" * (end - begin)


def _is_monotonous(text: str) -> bool:
    """Has it little variety, or is it one piece that is repeated, the last time perhaps in part?"""
    folded = text.lower()
    # with the hyphens of an UUID, too
    if len(set(text)) < (HEX_VARIETY if _HEX.fullmatch(_SIGNS.sub("", text)) else VARIETY):
        return True
    longest = min(len(folded) // 2, LONGEST_PIECE)
    return any(folded[size:] == folded[:-size] for size in range(1, longest + 1))
