"""Load tests that an operator aims at a running server: ``mechamap-bench connections``, ``fanout`` and ``http``.

Each goes to one address, follows no redirect, is bounded in count and time, and ends with figures, what they mean, and
a verdict.
"""
