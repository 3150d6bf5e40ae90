"""CHANNEL_RULES: resources that an operator adds."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechamap_rt.core.rules import RuleTable
from mechamap_rt.rights import resource_of
from mechamap_rt.settings import SettingsError, load
from mechamap_rt.settings.channelrules import MAX_RULES, ChannelRule, channel_rules
from mechamap_rt.settings.faults import BadValue
from mechamap_rt.settings.roles import RANKS

WORDS = st.from_regex(r"[a-z0-9_@,-]{1,12}", fullmatch=True)
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,12}", fullmatch=True)
PLAIN = st.lists(WORDS, min_size=1, max_size=3).map(".".join)
WITH_ID = st.tuples(PLAIN, st.sampled_from(["", ".x"])).map(lambda parts: f"{parts[0]}.<id>{parts[1]}")
ANY = PLAIN | WITH_ID | PLAIN.map(lambda text: f"{text}.<rest>") | PLAIN.map(lambda text: f"{text}.<name>")
RULES = (
    st.builds(ChannelRule, ANY, st.just("everyone"))
    | st.builds(ChannelRule, WITH_ID, st.just("owner"))
    | st.builds(lambda pattern, role: ChannelRule(pattern, "role", role=role), ANY, st.sampled_from(sorted(RANKS)))
    | st.builds(
        lambda pattern, table, of, user, active: ChannelRule(
            pattern, "member", table=table, columns=(of, user), active=active
        ),
        WITH_ID,
        NAMES,
        NAMES,
        NAMES,
        NAMES | st.just(""),
    )
)


def faults(**environ: str) -> dict[str, str]:
    """What stops the start."""
    try:
        load(environ, None)
    except SettingsError as error:
        return {fault.name: fault.message for fault in error.faults}
    return {}


@given(st.lists(RULES, max_size=8, unique_by=lambda rule: rule.pattern).map(tuple))
def test_what_is_written_is_read_again(rules: tuple[ChannelRule, ...]) -> None:
    assert channel_rules.parse(channel_rules.format(rules)) == rules
    # and is a table of rules
    RuleTable([resource_of(rule) for rule in rules])


PIECES = st.sampled_from(
    [
        "a",
        "<id>",
        "<rest>",
        "<x>",
        ".",
        "=",
        ":",
        ";",
        "member",
        "owner",
        "role",
        "everyone",
        "t(a,b)",
        "(",
        ",",
        " ",
        "<",
    ]
)


@given(st.text(max_size=60) | st.lists(PIECES, max_size=14).map("".join))
def test_whatever_is_read_can_be_a_table(text: str) -> None:
    """Whoever mistypes a rule is told at the start, and nothing else goes wrong there or later."""
    try:
        rules = channel_rules.parse(text)
    except BadValue:
        return
    assert channel_rules.parse(channel_rules.format(rules)) == rules
    RuleTable([resource_of(rule) for rule in rules]).match("a.1")


def test_the_example_of_the_documentation() -> None:
    rules = channel_rules.parse(
        " project.<id> = member:project_user( project_id , user_id ,active) ; kiosk.<rest>=everyone;;"
        "desk.<id>=owner; staff.<rest> = role:senior "
    )
    assert rules == (
        ChannelRule("project.<id>", "member", table="project_user", columns=("project_id", "user_id"), active="active"),
        ChannelRule("kiosk.<rest>", "everyone"),
        ChannelRule("desk.<id>", "owner"),
        ChannelRule("staff.<rest>", "role", role="senior"),
    )
    assert channel_rules.parse(" ; ") == ()


@pytest.mark.parametrize(
    "wrong",
    [
        "project",
        "project.<id>",
        "project.<id>=",
        "=everyone",
        "project.<id>=nobody",
        "project.<id>=Everyone",
        "project.<id>=everyone:x",
        "project.<id>=owner:x",
        "project.<name>=owner",
        "project=owner",
        "project.<id>=member",
        "project.<id>=member:",
        "project.<id>=member:project_user",
        "project.<id>=member:project_user(project_id)",
        "project.<id>=member:project_user(a,b,c,d)",
        "project.<id>=member:project_user(a,)",
        "project.<id>=member:site.project_user(a,b)",
        "project.<id>=member:`project_user`(a,b)",
        "project.<id>=member:project_user(a,b) OR 1=1",
        "project.<id>=member:project_user(a,b c)",
        "project.<id>=member:" + "t" * 65 + "(a,b)",
        "project.<id>=member:bảng(a,b)",
        "project.<rest>=member:project_user(a,b)",
        "project.<id>=role",
        "project.<id>=role:",
        "project.<id>=role:wizard",
        "project.<id>=role:Admin",
        "project.<id>=role:admin,member",
        "project..x=everyone",
        ".project=everyone",
        "project.=everyone",
        "pro ject=everyone",
        "project.<ID>=everyone",
        "project.<>=everyone",
        "project.x<id>=everyone",
        "project.<id>.<id>=everyone",
        "project.<rest>.<rest>=everyone",
        "project.<a>.<a>=everyone",
        "dự án=everyone",
    ],
)
def test_a_fault_names_its_culprit(wrong: str) -> None:
    found = faults(CHANNEL_RULES=f"fine.<id>=everyone; {wrong}; also.fine=everyone", PORT="x")
    assert list(found) == ["PORT", "CHANNEL_RULES"], "all at once"
    message = found["CHANNEL_RULES"]
    assert ascii(wrong[:40])[1:-1] in message, message
    assert "fine.<id>" not in message


def test_a_role_that_does_not_exist_is_told_with_those_that_do() -> None:
    assert "senior_member" in faults(CHANNEL_RULES="a.<rest>=role:wizard")["CHANNEL_RULES"]


def test_a_pattern_twice() -> None:
    message = faults(CHANNEL_RULES="a.<id>=everyone; b=everyone; a.<id> = owner")["CHANNEL_RULES"]
    assert "once" in message
    assert "a.<id>" in message


def test_too_many() -> None:
    rules = [f"r{number}=everyone" for number in range(MAX_RULES + 1)]
    assert faults(CHANNEL_RULES=";".join(rules[:-1])) == {}
    assert re.search(rf"at most {MAX_RULES}", faults(CHANNEL_RULES=";".join(rules))["CHANNEL_RULES"])


def test_rules_besides_a_site_that_decides_are_remarked() -> None:
    warnings = load(
        {"CHANNEL_RULES": "a=everyone", "CHANNEL_AUTH": "laravel", "LARAVEL_API_URL": "https://mechamap.com"}, None
    ).warnings
    assert any("CHANNEL_RULES has no effect" in warning for warning in warnings)


def test_an_id_with_something_after_it() -> None:
    """As ``user.<id>.<rest>`` of the site's own table."""
    table = RuleTable([resource_of(rule) for rule in channel_rules.parse("team.<id>.<rest>=owner")])
    match = table.match("team.5.a.b")
    assert match is not None
    assert match.id == 5
