"""The notation of ``CHANNEL_RULES``: resources that an operator adds, and who may subscribe to them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from mechamap_rt.settings.faults import BadValue
from mechamap_rt.settings.kinds import Kind
from mechamap_rt.settings.roles import RANKS

MAX_RULES: Final = 50

_SEGMENT = r"(?:[A-Za-z0-9_@,-]+|<[a-z]+>)"
_PATTERN = re.compile(rf"{_SEGMENT}(?:\.{_SEGMENT})*")
_NAME = r"[A-Za-z_][A-Za-z0-9_]{0,63}"
_MEMBERS = re.compile(rf"({_NAME})\(\s*({_NAME})\s*,\s*({_NAME})\s*(?:,\s*({_NAME})\s*)?\)")
_REASON = (
    "must be pattern=rule;pattern=rule with the rules everyone, owner, role:ROLE"
    " and member:TABLE(RESOURCE_COLUMN,USER_COLUMN[,ACTIVE_COLUMN])"
)


@dataclass(frozen=True, slots=True)
class ChannelRule:
    """One resource of an operator's.

    :ivar pattern: as in ``docs/operating.rst``: ``project.<id>``, ``kiosk.<rest>``.
    :ivar kind: ``everyone``, ``owner``, ``role`` or ``member``.
    :ivar role: the weakest role that may, of the kind ``role``.
    :ivar table: of the kind ``member``; ``columns`` are those of what and of the user, ``active`` one that must be 1.
    """

    pattern: str
    kind: str
    role: str = ""
    table: str = ""
    columns: tuple[str, str] = ("", "")
    active: str = ""


def _parse_rule(text: str) -> ChannelRule:
    pattern, equals, rule = (part.strip() for part in text.partition("="))
    kind, _, argument = (part.strip() for part in rule.partition(":"))
    if not equals or not _PATTERN.fullmatch(pattern):
        raise BadValue(_REASON, text)
    variables = re.findall("<[a-z]+>", pattern)
    if len(set(variables)) < len(variables):
        raise BadValue("each pattern must have each <variable> once", text)
    if pattern.startswith(("private-", "presence-")):
        raise BadValue("each pattern must be without private- and presence-, which it stands for too", text)
    if kind in ("owner", "member") and "<id>" not in pattern:
        raise BadValue(f"each pattern with the rule {kind} must have <id>", text)
    if kind in ("everyone", "owner") and not argument:
        return ChannelRule(pattern, kind)
    if kind == "role":
        if argument not in RANKS:
            raise BadValue(f"each rule with role must name one of {', '.join(RANKS)}", text)
        return ChannelRule(pattern, kind, role=argument)
    members = _MEMBERS.fullmatch(argument) if kind == "member" else None
    if members is None:
        raise BadValue(_REASON, text)
    table, of, user, active = members.groups()
    return ChannelRule(pattern, kind, table=table, columns=(of, user), active=active or "")


def _parse(text: str) -> tuple[ChannelRule, ...]:
    rules = tuple(_parse_rule(part.strip()) for part in text.split(";") if part.strip())
    patterns = [rule.pattern for rule in rules]
    if len(rules) > MAX_RULES:
        raise BadValue(f"must have at most {MAX_RULES} rules")
    for pattern in patterns:
        if patterns.count(pattern) > 1:
            raise BadValue("must name each pattern once", pattern)
    return rules


def _format_rule(rule: ChannelRule) -> str:
    argument = rule.role
    if rule.kind == "member":
        columns = ",".join(filter(None, (*rule.columns, rule.active)))
        argument = f"{rule.table}({columns})"
    return f"{rule.pattern}={rule.kind}" + (f":{argument}" if argument else "")


channel_rules: Kind[tuple[ChannelRule, ...]] = Kind(
    _parse, lambda rules: "; ".join(map(_format_rule, rules)), "NAME=RULE, between semicolons"
)
"""``project.<id>=member:project_user(project_id,user_id); kiosk.<rest>=everyone``"""
