"""Random joins, leaves, disconnects, lost messages and deaths of processes, held against a model of presence."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from tests.presence.cluster import Cluster, Device

NAMES = ("aaa001", "aaa002", "aaa003")
ROOMS = ("presence-thread.1", "presence-thread.2")
USERS = st.integers(1, 4)
#: Seconds in which everything has come to rest: a death is noticed, its users have their grace, others are asked.
REST = 30.0


class Client:
    """A device and what its page shows, by what it was told.

    :ivar shown: room → the ids of the members.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self.shown: dict[str, set[int]] = {}
        self.online: set[int] = set()
        self._seen = 0

    @property
    def user(self) -> int:
        return self.device.connection.identity.user_id

    def entered(self, room: str, answer: dict[str, Any]) -> None:
        self.read()
        self.shown[room] = {member["id"] for member in answer["members"]}

    def read(self) -> set[int]:
        """Take what came; who was said to be offline."""
        offline = set()
        for each in self.device.inbox.events[self._seen :]:
            event, data = each["event"], each["data"]
            if event == "member_joined":
                assert data["user"]["id"] not in self.shown[data["channel"]], "joined twice"
                self.shown[data["channel"]].add(data["user"]["id"])
            elif event == "member_left":
                assert data["user"]["id"] in self.shown[data["channel"]], "left without having been there"
                self.shown[data["channel"]].remove(data["user"]["id"])
            elif event == "user_online":
                assert data["user_id"] not in self.online, "told twice"
                self.online.add(data["user_id"])
            elif event == "user_offline":
                self.online.discard(data["user_id"])
                offline.add(data["user_id"])
        self._seen = len(self.device.inbox.events)
        return offline


class PresenceMachine(RuleBasedStateMachine):
    clients = Bundle("clients")

    def __init__(self) -> None:
        super().__init__()
        self.cluster = Cluster(NAMES)
        self.alive: dict[Client, None] = {}

    @rule(target=clients, name=st.sampled_from(NAMES), user=USERS, invisible=st.booleans())
    def connect(self, name: str, user: int, invisible: bool) -> Client:
        # half of the invisible ones are enough
        client = Client(self.cluster.device(name, user, invisible=invisible and user == 4))
        self.alive[client] = None
        return client

    @rule(client=clients, room=st.sampled_from(ROOMS))
    def join(self, client: Client, room: str) -> None:
        if client not in self.alive or room in client.shown:
            return
        client.device.subscribe(room).addCallback(lambda answer: client.entered(room, answer))
        self.cluster.move()

    @rule(client=clients, room=st.sampled_from(ROOMS))
    def leave(self, client: Client, room: str) -> None:
        if client in self.alive and client.shown.pop(room, None) is not None:
            client.device.unsubscribe(room)
            # of those whom it shared this channel with it may be told again
            client.online.clear()
            self.cluster.move()

    @rule(client=consumes(clients))
    def disconnect(self, client: Client) -> None:
        if client in self.alive:
            del self.alive[client]
            client.device.leave()
            self.cluster.move()

    @rule(seconds=st.floats(0, 15))
    def wait(self, seconds: float) -> None:
        self.cluster.wait(seconds)

    @rule(name=st.sampled_from(NAMES))
    def die_and_start_again(self, name: str) -> None:
        process = self.cluster.processes[name]
        self.cluster.kill(name)
        for client in [each for each in self.alive if each.device.process is process]:
            del self.alive[client]
        self.cluster.start(name)

    @rule(sender=st.sampled_from(NAMES), receiver=st.sampled_from(NAMES), client=clients, room=st.sampled_from(ROOMS))
    def lose_a_message(self, sender: str, receiver: str, client: Client, room: str) -> None:
        """What a client does is not heard by one of the processes, which finds out when it compares."""
        if sender == receiver or client not in self.alive or client.device.process.name != sender:
            return
        if client.shown.pop(room, None) is None:
            return
        client.device.unsubscribe(room)
        client.online.clear()
        self.cluster.processes[sender].streams[receiver].way.clear()
        self.cluster.wait(REST)

    @rule()
    def rest(self) -> None:
        self.cluster.wait(REST)
        visible = [client for client in self.alive if not client.device.connection.identity.invisible]
        for client in self.alive:
            assert client.read().isdisjoint(each.user for each in visible)
            for room, shown in client.shown.items():
                assert shown - {client.user} == {each.user for each in visible if room in each.shown} - {client.user}
        for name in NAMES:
            assert self.cluster.online(name, *range(1, 9)) == {client.user for client in visible}

    @invariant()
    def everybody_who_is_there_is_shown(self) -> None:
        visible = [client for client in self.alive if not client.device.connection.identity.invisible]
        for client in self.alive:
            assert client.read().isdisjoint(each.user for each in visible), "somebody who is here is not offline"
            for room, shown in client.shown.items():
                there = {each.user for each in visible if room in each.shown} - {client.user}
                assert there <= shown, f"{there - shown} are there"


TestPresence = PresenceMachine.TestCase
TestPresence.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
