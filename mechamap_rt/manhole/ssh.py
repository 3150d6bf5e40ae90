"""The SSH server of the manhole (RFC 4252 to 4254, by twisted.conch): public keys, one terminal a connection.

No passwords, no forwarding, no subsystems, no environment. What a visitor is and where the terminal leads is
:mod:`mechamap_rt.manhole.door`'s.
"""

from __future__ import annotations

import struct
from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from twisted.conch.avatar import ConchUser
from twisted.conch.error import ConchError, ValidPublicKey
from twisted.conch.interfaces import IConchUser
from twisted.conch.ssh.channel import SSHChannel
from twisted.conch.ssh.common import getNS
from twisted.conch.ssh.connection import OPEN_ADMINISTRATIVELY_PROHIBITED, SSHConnection
from twisted.conch.ssh.factory import SSHFactory
from twisted.conch.ssh.keys import BadKeyError, Key
from twisted.conch.ssh.session import parseRequest_pty_req, parseRequest_window_change
from twisted.conch.ssh.transport import SSHServerTransport
from twisted.conch.ssh.userauth import SSHUserAuthServer
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import ISSHPrivateKey
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure
from zope.interface import implementer

from mechamap_rt.manhole.stream import fitting

if TYPE_CHECKING:
    from mechamap_rt.manhole.door import Manhole
    from mechamap_rt.manhole.visit import Visit

#: Seconds in which somebody must have logged in, and tries that he has.
LOGIN_LIMIT: Final = 30.0
MAX_TRIES: Final = 12
#: Seconds that a client may stay when its terminal is closed.
LINGER: Final = 2.0
#: SSH_EXTENDED_DATA_STDERR (RFC 4254 section 5.2).
_STDERR: Final = 1


class _Quiet(Logger):
    """Conch's log, which tells each step of each connection, and takes a refusal for a fault."""

    def emit(self, level: Any, format: str | None = None, **fields: Any) -> None:
        failure = fields.get("log_failure")
        refused = failure is not None and failure.check(ConchError)
        if level >= LogLevel.error and not refused:
            super().emit(level, format, **fields)


#: With what somebody may sign: RFC 8709, RFC 5656, RFC 8332. Not ``ssh-rsa``, which is SHA-1.
SIGNATURES: Final = (
    b"ssh-ed25519",
    b"ecdsa-sha2-nistp256",
    b"ecdsa-sha2-nistp384",
    b"ecdsa-sha2-nistp521",
    b"rsa-sha2-512",
    b"rsa-sha2-256",
)

_log = Logger()
_quiet = _Quiet(namespace="mechamap_rt.manhole.ssh")


def fingerprint(blob: bytes) -> str:
    """A public key's, as ``ssh-keygen -l`` has it."""
    return "SHA256:" + b64encode(sha256(blob).digest()).decode().rstrip("=")


@implementer(ICredentialsChecker)
class Keys:
    """Checks signatures (RFC 4252 section 7).

    :param authorized: fires with the keys that open the manhole now; fails with an error that has been logged.
    """

    credentialInterfaces = (ISSHPrivateKey,)

    def __init__(self, authorized: Callable[[], Deferred[frozenset[bytes]]]) -> None:
        self._authorized = authorized

    def requestAvatarId(self, credentials: Any) -> Deferred[Any]:
        return Deferred.fromCoroutine(self._check(credentials))

    async def _check(self, credentials: Any) -> bytes:
        """The encoded key with which the credentials are signed.

        :raises ValidPublicKey: they are not signed yet; the client may do so.
        :raises UnauthorizedLogin: the key is not known, or it is not its signature.
        """
        blob: bytes = credentials.blob
        if blob not in await self._authorized():
            raise UnauthorizedLogin("the key is not authorized")
        if not credentials.signature:
            raise ValidPublicKey()
        try:
            algorithm, _ = getNS(credentials.signature)
            key = Key.fromString(blob, "BLOB")
            good = algorithm in SIGNATURES and key.verify(credentials.signature, credentials.sigData)
        except (BadKeyError, ValueError, struct.error, IndexError):
            good = False
        if not good:
            raise UnauthorizedLogin("the signature is not the key's")
        return blob


@implementer(IRealm)
class _Realm:
    """Whoever has a key is let in; what comes of it is decided when the connection is there."""

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> tuple[Any, Any, Callable[[], None]]:
        return IConchUser, Visitor(avatarId), lambda: None


class Visitor(ConchUser):
    """Somebody who has logged in.

    :ivar key: the encoded public key with which.
    """

    _log = _quiet

    def __init__(self, key: bytes) -> None:
        super().__init__()
        self.key = key
        self._served = False

    def lookupChannel(self, channelType: bytes, windowSize: int, maxPacket: int, data: bytes) -> SSHChannel:
        """The one terminal of the connection.

        :raises ConchError: it is not the first, or something else than a terminal.
        """
        if channelType != b"session" or self._served:
            raise ConchError("One terminal a connection, and nothing else", OPEN_ADMINISTRATIVELY_PROHIBITED)
        self._served = True
        return Terminal(remoteWindow=windowSize, remoteMaxPacket=max(maxPacket, 1), data=data, avatar=self)


class Terminal(SSHChannel):
    """The terminal of a visitor, or what he uses instead of one (RFC 4254 section 6)."""

    name = b"session"
    _log = _quiet
    _size: tuple[int, int] | None = None
    _visit: Visit | None = None

    def request_pty_req(self, data: bytes) -> bool:
        _, (rows, columns, _, _), _ = parseRequest_pty_req(data)
        self._size = fitting(columns, rows)
        return True

    def request_window_change(self, data: bytes) -> bool:
        rows, columns, _, _ = parseRequest_window_change(data)
        if self._visit is not None and self._size is not None:
            self._visit.resize(*fitting(columns, rows))
        return True

    def request_shell(self, data: bytes) -> bool:
        return self._begin(None)

    def request_exec(self, data: bytes) -> bool:
        command, _ = getNS(data)
        return self._begin(command.decode("utf-8", "replace"))

    def _begin(self, command: str | None) -> bool:
        if self._visit is not None:
            return False
        connection: Any = self.conn
        self._visit = connection.transport.visit
        assert self._visit is not None
        self._visit.begin(self, self._size, command)
        return True

    # what the client does

    def dataReceived(self, data: bytes) -> None:
        if self._visit is not None:
            self._visit.typed(data)

    def eofReceived(self) -> None:
        if self._visit is not None:
            self._visit.typed_all()

    def closed(self) -> None:
        connection: Any = self.conn
        if self._visit is not None:
            self._visit.end()
        connection.transport.linger()

    def stopWriting(self) -> None:
        if self._visit is not None:
            self._visit.pause(True)

    def startWriting(self) -> None:
        if self._visit is not None:
            self._visit.pause(False)

    # what the visit does

    def tell(self, sentence: str) -> None:
        """Tell the visitor what is the matter, on standard error."""
        # out of the insert mode in which a shell leaves a terminal, and to the beginning of a line
        prefix, end = ("\x1b[4l\r\n", "\r\n") if self._size is not None else ("", "\n")
        if not self.localClosed:
            self.writeExtended(_STDERR, (prefix + sentence + end).encode())

    def leave(self, status: int) -> None:
        """Close it, after what has been written."""
        connection: Any = self.conn
        if not self.localClosed:
            connection.sendRequest(self, b"exit-status", struct.pack(">L", status))
            self.loseConnection()

    def hold(self, on: bool) -> None:
        """Read no more from the client, or again."""
        connection: Any = self.conn
        transport = connection.transport.transport
        if transport is not None:
            transport.pauseProducing() if on else transport.resumeProducing()


class _Connection(SSHConnection):
    """What is multiplexed over a connection: begins when somebody has logged in."""

    _log = _quiet

    def serviceStarted(self) -> None:
        super().serviceStarted()
        transport: Any = self.transport
        transport.logged_in()


class _Login(SSHUserAuthServer):
    """Logging in; each try is remembered, for the audit log."""

    _log = _quiet
    loginTimeout = int(LOGIN_LIMIT)
    attemptsBeforeDisconnect = MAX_TRIES

    def tryAuth(self, kind: bytes, user: bytes, data: bytes) -> Deferred[Any]:
        transport: Any = self.transport
        if kind != b"none":
            transport.tried(kind, user, data)
        else:
            transport.user = user.decode("utf-8", "backslashreplace")
        return super().tryAuth(kind, user, data)


class Transport(SSHServerTransport):
    """One connection.

    :ivar user: the name that was given.
    :ivar tries: how often somebody has tried to log in, and ``last``, with what.
    :ivar visit: what has come of it, when somebody has.
    """

    _log = _quiet
    ourVersionString = b"SSH-2.0-mechamap"
    # not all that conch can do: nothing of SHA-1, MD5, CBC or 3DES, and no decompressing for strangers
    supportedKeyExchanges = [each for each in SSHServerTransport.supportedKeyExchanges if not each.endswith(b"-sha1")]
    supportedCiphers = [each for each in SSHServerTransport.supportedCiphers if each.endswith(b"-ctr")]
    supportedMACs = [each for each in SSHServerTransport.supportedMACs if each.startswith(b"hmac-sha2-")]
    supportedCompressions = [b"none"]
    factory: Any
    transport: Any

    def __init__(self) -> None:
        super().__init__()
        self.user = ""
        self.tries = 0
        self.last = ""
        self.visit: Visit | None = None
        self.lost = False
        self._late: Any = None

    @property
    def manhole(self) -> Manhole:
        manhole: Manhole = self.factory.manhole
        return manhole

    @property
    def address(self) -> str:
        host: str = self.transport.getPeer().host
        return host

    def connectionMade(self) -> None:
        self.transport.setTcpKeepAlive(True)
        self.peer = self.address
        self._late = self.manhole.reactor.callLater(LOGIN_LIMIT, self.abort)
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        try:
            super().dataReceived(data)
        except Exception:
            # what is no SSH is not worth a traceback, unless it comes from somebody who is let in
            if self.visit is not None:
                _log.failure("A connection to the manhole failed")
            self.abort()

    def sendExtInfo(self, extensions: Any) -> None:
        # conch names those of the server's own key
        super().sendExtInfo([(b"server-sig-algs", b",".join(SIGNATURES))])

    def receiveError(self, reasonCode: int, description: bytes) -> None:
        """The client has taken leave."""

    def tried(self, kind: bytes, user: bytes, data: bytes) -> None:
        """Somebody tries to log in."""
        self.tries += 1
        self.user = user.decode("utf-8", "backslashreplace")
        self.last = kind.decode("ascii", "backslashreplace")
        if kind == b"publickey":
            # a flag, the algorithm, and the key (RFC 4252 section 7)
            _, blob, _ = getNS(data[1:], 2)
            self.last = fingerprint(blob)

    def logged_in(self) -> None:
        self._on_time()
        avatar: Any = getattr(self, "avatar", None)
        # the client may have gone while its key was looked for
        if not self.lost and avatar is not None:
            self.visit = self.manhole.arrived(self, fingerprint(avatar.key))

    def linger(self) -> None:
        """It has done what it was for. Who hears that before he has closed it himself takes it for a fault."""
        if not self.lost:
            self._late = self.manhole.reactor.callLater(LINGER, self.loseConnection)

    def _on_time(self) -> None:
        late, self._late = self._late, None
        if late is not None and late.active():
            late.cancel()

    def abort(self) -> None:
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure | None = connectionDone) -> None:
        self.lost = True
        self._on_time()
        super().connectionLost(reason)
        self.manhole.gone(self)


class Server(SSHFactory):
    """Makes the connections.

    :param key: the server's own, an Ed25519 one.
    :param most: connections at once, of whoever is logged in or not.
    """

    noisy = False
    protocol = Transport
    _log = _quiet
    services = {b"ssh-userauth": _Login, b"ssh-connection": _Connection}

    def __init__(self, manhole: Manhole, key: Key, authorized: Callable[[], Deferred[frozenset[bytes]]], most: int):
        self.manhole = manhole
        self.portal = Portal(_Realm(), [Keys(authorized)])
        self.publicKeys = {key.sshType(): key.public()}
        self.privateKeys = {key.sshType(): key}
        self._most = most
        #: Those that are there.
        self.connections: dict[Transport, None] = {}

    def buildProtocol(self, addr: Any) -> Any:
        if len(self.connections) >= self._most:
            return None
        made: Any = super().buildProtocol(addr)
        self.connections[made] = None
        return made
