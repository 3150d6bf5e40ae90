"""Benchmarks: a load generator, the servers it is pointed at, the scenarios and their report.

Nothing in the server imports this package. ``python -m mechamap_rt.bench run`` measures.
"""
