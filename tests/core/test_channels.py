"""Names, aliases and the table of rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechamap_rt.core import channels
from mechamap_rt.core.rules import Rule, RuleTable

ALPHABET = "abcXYZ019_-=@,.;:"


@given(st.text(ALPHABET, min_size=1, max_size=140))
def test_three_names_are_one_resource(name: str) -> None:
    if name.startswith(("private-", "presence-")):
        return
    resources = {channels.parse(prefix + name).resource for prefix in ("", "private-", "presence-")}
    assert resources == {name}
    assert channels.parse("presence-" + name).presence
    assert not channels.parse("private-" + name).presence


@given(st.text(max_size=200))
def test_any_text_is_a_channel_or_an_invalid_channel(text: str) -> None:
    try:
        assert channels.parse(text).name == text
    except channels.InvalidChannel:
        assert not text or len(text) > 164 or set(text) - set(_allowed()) or text in ("private-", "presence-")


def _allowed() -> str:
    letters = "abcdefghijklmnopqrstuvwxyz"
    return letters + letters.upper() + "0123456789_-=@,.;:"


@pytest.mark.parametrize("name", ["", "a b", "ả", "a\n", "x" * 165, "private-", "presence-", "a/b", "a\x00"])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(channels.InvalidChannel):
        channels.parse(name)


@pytest.mark.parametrize(
    ("resource", "rule"),
    [
        ("public.anything.at.all", Rule.EVERYONE),
        ("notifications", Rule.EVERYONE),
        ("marketplace.global", Rule.EVERYONE),
        ("product.7", Rule.EVERYONE),
        ("showcase.7", Rule.EVERYONE),
        ("user.5", Rule.OWNER),
        ("user.5.notifications", Rule.OWNER),
        ("following.5", Rule.OWNER),
        ("marketplace.orders.5", Rule.OWNER),
        ("thread.7", Rule.THREAD),
        ("forum.7", Rule.FORUM),
        ("conversation.7", Rule.CONVERSATION),
        ("group.7", Rule.GROUP),
        ("seller.7", Rule.SELLER),
        ("marketplace.seller.7", Rule.SELLER),
        ("notifications.role.admin", Rule.ROLE),
        ("moderator.queue", Rule.MODERATOR),
        ("admin.alerts", Rule.ADMIN),
        ("public", None),
        ("public.", None),
        ("user.05", None),
        ("user.0", None),
        ("user.-1", None),
        ("user.5x", None),
        ("user.٥", None),
        ("user.9223372036854775808", None),
        ("thread.7.x", None),
        ("nonsense.7", None),
        ("notifications.role", None),
    ],
)
def test_the_contracts_table(resource: str, rule: Rule | None) -> None:
    match = RuleTable().match(resource)
    assert (match and match.rule) == rule
