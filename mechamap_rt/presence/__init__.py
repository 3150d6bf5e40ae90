"""Presence: who is online, and who is in a channel, by user and over all processes."""
