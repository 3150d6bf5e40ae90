"""What can be wrong with Redis, and how it is told to the operator."""

from __future__ import annotations

from typing import Final

from OpenSSL.SSL import Error as TLSError
from service_identity import CertificateError, VerificationError
from twisted.internet.defer import TimeoutError as NoAnswer
from twisted.internet.error import ConnectError, ConnectionClosed, ConnectionDone, DNSLookupError
from txredisapi import ResponseError


class RedisAway(Exception):
    """Redis cannot be asked now, or did not answer in time; whether it did what it was asked is not known."""


class NotMaster(Exception):
    """What the sentinels call the master is none; it may become one, or they may name another."""


#: What an error reply contains, and what the operator should read instead: its cause and the setting that mends it.
_REFUSALS: Final = (
    ("WRONGPASS", "it refuses the password: see REDIS_USERNAME and REDIS_PASSWORD"),
    ("invalid password", "it refuses the password: see REDIS_PASSWORD"),
    ("NOAUTH", "it asks for a password: set REDIS_PASSWORD"),
    ("without any password configured", "it has no password, but REDIS_PASSWORD is set"),
    ("no password is set", "it has no password, but REDIS_PASSWORD is set"),
    ("DB index is out of range", "it does not have the database that REDIS_DB names"),
    ("max number of clients", "it has as many clients as its maxclients allows"),
    ("LOADING", "it is still loading its data"),
    ("DENIED", "it is in protected mode and accepts this host only with a password"),
)


def in_words(error: BaseException, *secrets: str) -> str:
    """Why Redis cannot be had, as one clause for the operator.

    :param secrets: are never shown, whatever a reply echoes.
    """
    if isinstance(error, RedisAway) and error.__cause__ is not None:
        error = error.__cause__
    text = _clause(error)
    for secret in filter(None, secrets):
        text = text.replace(secret, "***")
    return text


def _clause(error: BaseException) -> str:
    text = str(error)
    if isinstance(error, ResponseError):
        for mark, words in _REFUSALS:
            if mark in text:
                return words
        if "NOPERM" in text:
            return f"the account lacks a right ({text.strip()})"
        return f"it answers with an error ({text.strip()})"
    if isinstance(error, VerificationError | CertificateError):
        return "its certificate is for another name than the one it is called by (REDIS_TLS)"
    if isinstance(error, TLSError):
        reasons = ", ".join(str(part[-1]) for part in error.args[0]) if error.args and error.args[0] else ""
        return f"TLS fails ({reasons or 'it ends the handshake'}): see REDIS_TLS, REDIS_TLS_CA, REDIS_TLS_CERT"
    if isinstance(error, NoAnswer | TimeoutError):
        return "it does not answer"
    if isinstance(error, DNSLookupError):
        return "its name cannot be resolved"
    if isinstance(error, ConnectionDone):
        return "it closed the connection"
    if isinstance(error, ConnectError | ConnectionClosed):
        return f"there is no connection ({type(error).__name__})"
    return text or type(error).__name__
