"""Who is gone is told of while others come and go all the time."""

from __future__ import annotations

from twisted.internet.task import Clock

from mechamap_rt.core.wheel import Wheel
from mechamap_rt.presence.rooms import Room
from mechamap_rt.presence.standing import SOON, Standing

PLACE = "public.lobby"


def test_the_question_who_is_online_is_not_put_off_by_those_who_leave_meanwhile() -> None:
    clock, room = Clock(), Room()
    asked: list[int] = []

    async def ask(users: list[int]) -> tuple[set[int], bool | None]:
        asked.extend(users)
        return set(), True

    standing = Standing(Wheel(clock), clock.seconds, ask, {PLACE: room}.get)
    for user in range(1, 101):
        standing.came(PLACE, room, (user, "someone", None), user)
        standing.went(PLACE, (user, "someone", None), user, clock.seconds())
        clock.advance(SOON / 2)
        assert user < 5 or asked
    assert len(standing) < 5
    assert sorted(asked) == list(range(1, 1 + len(asked)))
