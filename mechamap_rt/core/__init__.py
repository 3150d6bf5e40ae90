"""Channels, connections and delivery: what the server is about, without sockets."""
