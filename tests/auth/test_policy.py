"""Every rule of the contract's table against the rows of the demo site, in the embedded database."""

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from mechamap_rt.auth.policy import Policy
from mechamap_rt.core import channels
from mechamap_rt.core.identity import Identity
from mechamap_rt.core.rules import RuleTable
from mechamap_rt.interfaces import IDatabase, IPolicy, ISite
from mechamap_rt.storage.site import Site
from mechamap_rt.storage.sqlite import SQLiteDatabase

AN = Identity(1, "An", "member")
BINH = Identity(2, "Bình", "member")
CHI = Identity(3, "Chi", "moderator")
GUEST = Identity(9, "Guest", "guest")
STRANGER = Identity(8, "Stranger", "member")
ADMIN = Identity(10, "Admin", "admin")
UNKNOWN_ROLE = Identity(11, "?", "wizard")

EVERYBODY = [AN, BINH, CHI, GUEST, STRANGER, ADMIN, UNKNOWN_ROLE]
MEMBERS = [AN, BINH, CHI, STRANGER, ADMIN]

TABLE: list[tuple[str, list[Identity]]] = [
    ("public.news", EVERYBODY),
    ("notifications", EVERYBODY),
    ("product.1", EVERYBODY),
    ("user.1", [AN]),
    ("user.1.notifications", [AN]),
    ("following.2", [BINH]),
    ("marketplace.orders.2", [BINH]),
    ("thread.1", MEMBERS),
    ("thread.2", [CHI, ADMIN]),
    ("thread.3", [BINH, CHI, ADMIN]),
    ("thread.4", [BINH, CHI, ADMIN]),
    ("thread.5", [BINH, CHI, ADMIN]),
    ("thread.6", [BINH, CHI, ADMIN]),
    ("thread.7", []),
    ("thread.999", []),
    ("forum.1", MEMBERS),
    ("forum.2", [CHI, ADMIN]),
    ("forum.999", []),
    ("conversation.1", [AN, BINH]),
    ("conversation.999", []),
    ("group.3", [AN, BINH, CHI]),
    ("group.999", []),
    ("seller.1", [BINH, ADMIN]),
    ("marketplace.seller.1", [BINH, ADMIN]),
    ("seller.999", [ADMIN]),
    ("notifications.role.moderator", [CHI, ADMIN]),
    ("notifications.role.member", [AN, BINH, STRANGER, ADMIN]),
    ("moderator.queue", [CHI, ADMIN]),
    ("admin.alerts", [ADMIN]),
    ("nonsense.1", []),
    ("user.0", []),
]


class PolicyTests(TestCase):
    def setUp(self) -> Deferred[None]:
        self.database = SQLiteDatabase(reactor)  # type: ignore[arg-type]
        self.policy = Policy(Site(self.database), RuleTable())
        self.addCleanup(self.database.stop)
        return self.database.start()

    def test_every_cell_of_the_table(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._every_cell())

    async def _every_cell(self) -> None:
        for resource, allowed in TABLE:
            for prefix in ("", "private-", "presence-"):
                channel = channels.parse(prefix + resource)
                for user in EVERYBODY:
                    answer: Any = await self.policy.may_subscribe(user, channel)
                    self.assertIs(answer, user in allowed, f"{user.name} {channel.name}")

    def test_an_inactive_member_of_a_group_is_none(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._inactive())

    async def _inactive(self) -> None:
        self.assertFalse(await self.policy.may_subscribe(Identity(4, "Dung", "member"), channels.parse("group.3")))

    def test_unknown_resources_are_counted(self) -> None:
        self.policy.may_subscribe(AN, channels.parse("nonsense.1"))
        self.assertEqual(self.policy.unknown, 1)

    def test_interfaces(self) -> None:
        verifyObject(IPolicy, self.policy)
        verifyObject(IDatabase, self.database)
        verifyObject(ISite, Site(self.database))
