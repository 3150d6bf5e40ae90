"""Fixtures for the tests of databases."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.mariadb import MariaDB


@pytest.fixture(scope="session")
def another() -> Iterator[MariaDB]:
    """One more like ``spare``."""
    one = MariaDB()
    try:
        yield one
    finally:
        one.end()


@pytest.fixture(scope="session")
def spare() -> Iterator[MariaDB]:
    """A MariaDB with the demo rows, for tests that stop, freeze and break it, and leave it as it was."""
    one = MariaDB()
    try:
        yield one
    finally:
        one.end()
