"""Pages for the tests of presence."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clients.node import Node
from tests.presence.pages import Pages


@pytest.fixture
def pages(node: Node) -> Iterator[Pages]:
    """Opens pages of users; those that are open at the end are closed."""
    made = Pages(node)
    try:
        yield made
    finally:
        made.close()
