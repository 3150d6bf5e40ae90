"""TLS on the server's own port: which versions and ciphers, with which certificate, over which transport.

OpenSSL works on memory (Twisted's ``TLSMemoryBIOProtocol``): bytes come from a TCP connection and go to one, so that
accepting, counting and handing out of sockets are the same as without TLS. Only servers with ``SSL_ENABLED`` load this.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, Final

from OpenSSL import SSL
from twisted.internet.interfaces import IDelayedCall, IOpenSSLServerConnectionCreator, IProtocolFactory, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from mechamap_rt.interfaces import IReactor
from mechamap_rt.settings.credentials import Credentials
from mechamap_rt.system.direct import direct, write

_log = Logger()

#: What TLS 1.2 may use (RFC 9325 section 4.2): keys that are made for one connection, and authenticated encryption.
CIPHERS: Final = (
    b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    b"ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)
#: The same for TLS 1.3, which has no others.
CIPHERS_13: Final = b"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#: The protocol that is spoken inside, as ALPN names it.
HTTP: Final = b"http/1.1"
#: Bytes of a record (RFC 8446 section 5.1): so much is encrypted at once.
RECORD: Final = 2**14
#: Seconds in which a peer that has ended the session may read what the kernel has not taken yet.
LINGER: Final = 5.0


class NoCommonProtocol(SSL.Error):
    """The client offers protocols, and none that is spoken here."""


def _choose(connection: SSL.Connection, offered: Sequence[bytes]) -> bytes:
    """ALPN; not asked for clients that offer nothing, who speak HTTP/1.1.

    Who offers only others (``h2``) gets the alert ``no_application_protocol``, as RFC 7301 section 3.2 has it: going on
    would mean HTTP/1.1 with somebody who has just said that he does not speak it.
    """
    if HTTP in offered:
        return HTTP
    raise NoCommonProtocol([("SSL routines", "", "no application protocol")])


def make_context(credentials: Credentials) -> SSL.Context:
    """What new connections begin with. Takes some milliseconds.

    :raises SSL.Error: OpenSSL does not take the certificate.
    """
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(
        SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE | SSL.OP_NO_TICKET
    )
    # No session is resumed. A ticket's key opens every connection that was made with it in TLS 1.2, so it would have to
    # be changed every few hours, by all workers at once, for a ticket is brought to whichever worker accepts. Clients
    # stay connected for hours: what a resumption saves, one signature, they would save once. (In TLS 1.3 OpenSSL goes
    # on to send tickets; they are names of sessions that nobody has kept.)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    # an idle connection keeps no buffers
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_cipher_list(CIPHERS)
    context.set_tls13_ciphersuites(CIPHERS_13)
    # The groups are OpenSSL's own, X25519 first, with ML-KEM where both have it: all of them are sound, and it is
    # OpenSSL that hears first when one is not any more.
    try:
        context.set_alpn_select_callback(_choose)
    except MemoryError:
        # a callback of cffi's needs memory that may be written and executed, which systemd can forbid
        _log.warn("ALPN is not negotiated: this system has no memory for callbacks (MemoryDenyWriteExecute)")
    context.use_certificate(credentials.chain[0])
    for another in credentials.chain[1:]:
        context.add_extra_chain_cert(another)
    context.use_privatekey(credentials.private)
    context.check_privatekey()
    return context


def reason(error: SSL.Error) -> str:
    """OpenSSL's words for what is wrong."""
    queue = error.args[0] if error.args else ()
    words = [entry[2] for entry in queue if isinstance(entry, tuple) and entry[2]] if isinstance(queue, list) else []
    return "; ".join(words) or "OpenSSL does not say why"


@implementer(IOpenSSLServerConnectionCreator)
class Terminal:
    """Begins TLS sessions with the certificate that is good now; those that there are keep theirs.

    :ivar credentials: what new connections get.
    :ivar fault: why they do not get what was given last; empty when they do.
    """

    def __init__(self, reactor: IReactor) -> None:
        self._reactor = reactor
        self._context: SSL.Context | None = None
        self._given: Credentials | None = None
        self.credentials: Credentials | None = None
        self.fault = ""

    async def take(self, credentials: Credentials) -> None:
        """Have new connections get this one; where OpenSSL does not take it, :attr:`fault` says why."""
        self._given = credentials
        if credentials == self.credentials:
            return
        reactor: Any = self._reactor
        try:
            context = await deferToThreadPool(reactor, reactor.getThreadPool(), make_context, credentials)
        except SSL.Error as error:
            self.fault = reason(error)
            _log.error(
                "The certificate of {subject} cannot be used: {fault}", subject=credentials.subject, fault=self.fault
            )
            return
        # another one may have been given meanwhile, and its thread been faster
        if self._given is credentials:
            self._context, self.credentials, self.fault = context, credentials, ""

    def serverConnectionForTLS(self, protocol: object) -> SSL.Connection:
        if self._context is None:
            raise RuntimeError("there is no certificate yet")
        return SSL.Connection(self._context, None)

    def figures(self) -> dict[str, Any]:
        """What an operator sees of the certificate: whose it is, when it expires (seconds since the epoch), a fault."""
        credentials = self.credentials
        if credentials is None:
            return {}
        return {"subject": credentials.subject, "expires": credentials.until, "fault": self.fault}

    def factory(self, inside: IProtocolFactory) -> SecureFactory:
        """A factory of connections over which the protocols of ``inside`` speak."""
        return SecureFactory(self, inside, self._reactor)


class SecureTransport(TLSMemoryBIOProtocol):
    """A TLS session as a transport.

    It writes to the socket at once, as :mod:`mechamap_rt.system.direct` does, ends as TCP connections end, and can end
    one direction alone.
    """

    factory: SecureFactory
    transport: Any
    _producer: Any
    _tlsConnection: Any
    _cutting: IDelayedCall | None = None

    # writing

    def _flushSendBIO(self) -> None:
        try:
            data = self._tlsConnection.bio_read(2**15)
        except SSL.WantReadError:
            return
        write(self.transport, data)

    def send_now(self, data: bytes) -> int:
        """As ``socket.send``: take so much of ``data`` as the kernel takes now; at most a record too much.

        :raises OSError: the connection is gone.
        :raises BlockingIOError: what was written before still waits.
        """
        if self._lostTLSConnection or self._aborted:
            raise ConnectionResetError
        if not self._handshakeDone or self._appSendBuffer:
            raise BlockingIOError
        sent = 0
        while sent < len(data) and direct(self.transport) is not None:
            try:
                sent += self._tlsConnection.send(data[sent : sent + RECORD])
            except SSL.WantReadError:
                break
            except SSL.Error:
                self._tlsShutdownFinished(Failure())
                raise ConnectionResetError from None
            self._flushSendBIO()
        if not sent:
            raise BlockingIOError
        return sent

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Twisted would ask a pull producer again and again, as long as 64 kB are not full; this one is asked when all
        that was written is out."""
        if streaming or self._lostTLSConnection:
            super().registerProducer(producer, streaming)
            return
        self.transport.registerProducer(producer, False)
        self._producer = _Pulled(producer)
        # it may be out already
        self.transport.startWriting()

    def unregisterProducer(self) -> None:
        if not isinstance(self._producer, _Pulled):
            super().unregisterProducer()
            return
        self._producer = None
        self.transport.unregisterProducer()
        if self.disconnecting and not self._appSendBuffer:
            self._shutdownTLS()

    # ending

    def loseWriteConnection(self) -> None:
        """Say that nothing more will come (``close_notify``), and go on reading: nothing of TCP's own half-closing."""
        if not self._handshakeDone:
            self.abortConnection()
        elif not self._lostTLSConnection:
            self._notify()

    def _notify(self) -> None:
        # in the middle of a handshake, or after a fault, there is nobody to tell
        with contextlib.suppress(SSL.Error):
            self._tlsConnection.shutdown()
        self._flushSendBIO()

    def _shutdownTLS(self) -> None:
        """Nobody waits for the peer's ``close_notify`` (RFC 8446 section 6.1): one that is silent would stay."""
        self._notify()
        self.transport.loseConnection()

    def _tlsShutdownFinished(self, reason: Failure | None) -> None:
        super()._tlsShutdownFinished(reason)
        if self.transport.connected and direct(self.transport) is None and self._cutting is None:
            self._cutting = self.factory.clock.callLater(LINGER, self.transport.abortConnection)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        cutting, self._cutting = self._cutting, None
        if cutting is not None and cutting.active():
            cutting.cancel()
        super().connectionLost(reason)


class _Pulled:
    """A pull producer that the TCP connection asks by itself."""

    def __init__(self, producer: Any) -> None:
        self._producer = producer

    def pauseProducing(self) -> None:
        """It produces when it is asked."""

    resumeProducing = pauseProducing


class SecureFactory(TLSMemoryBIOFactory):
    """TLS around the protocols of another factory."""

    protocol = SecureTransport

    def __init__(self, terminal: Terminal, inside: IProtocolFactory, clock: IReactorTime) -> None:
        super().__init__(terminal, False, inside, clock)
        self.clock = clock
