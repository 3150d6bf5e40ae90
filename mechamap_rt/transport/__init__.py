"""Sockets: the port, WebSocket by Autobahn, and the sessions of each protocol."""
