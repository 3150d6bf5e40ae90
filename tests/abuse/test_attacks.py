"""A slice of every attack, against a running server: nobody else notices, little memory, and nothing stays behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.abuse.__main__ import ALL
from tests.abuse.attack import Attack
from tests.abuse.siege import LIMITS, Siege
from tests.chaos.bystanders import Bystanders
from tests.server import Server

CALM = 1.0


@pytest.fixture(scope="module")
def besieged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Attack], Siege]]:
    """``besieged(attack)``: a server with the attack's settings, shared by the attacks with the same."""
    sieges: dict[tuple[tuple[str, str], ...], Siege] = {}
    with ExitStack() as stack:

        def siege(attack: Attack) -> Siege:
            settings = tuple(attack.settings.items())
            if settings not in sieges:
                server = Server.start(tmp_path_factory.mktemp("abuse"), LIMITS | attack.settings)
                stack.callback(server.end)
                sieges[settings] = Siege(server, stack.enter_context(Bystanders()))
                sieges[settings].calm(CALM)
            return sieges[settings]

        yield siege


@pytest.mark.parametrize("attack", ALL, ids=lambda attack: attack.name)
def test_nobody_else_notices(besieged: Callable[[Attack], Siege], attack: Attack) -> None:
    siege = besieged(attack)
    result = siege.suffer(attack)
    if result.faults():
        # a machine that has much else to do is late once; a server that an attack holds up is late every time
        siege.calm(CALM)
        result = siege.suffer(attack)
    assert not result.faults(), result
