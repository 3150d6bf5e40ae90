"""A conformance suite for Engine.IO 4 and Socket.IO 5, written from their public protocol documents.

``python -m tests.conformance URL --token TOKEN`` runs it against any server. It speaks at the level of bytes, over
plain TCP and WebSocket, with no Socket.IO library. What it holds a server to:

- https://socket.io/docs/v4/engine-io-protocol/
- https://socket.io/docs/v4/socket-io-protocol/
- https://socket.io/docs/v4/troubleshooting-connection-issues (the codes of HTTP errors)
- where they are silent on how to refuse bad input: what the reference server does.

Where documents and reference server disagree a case accepts both and says so, or there is none: an event without any
payload (``42``) must end the session, but the reference server takes it; ``application/octet-stream`` is demanded for
binary data, but the reference server refuses it.
"""
