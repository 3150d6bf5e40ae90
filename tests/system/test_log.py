"""Which events are logged, in which form, and how many of the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import Logger

from mechamap_rt.system.log import Log
from mechamap_rt.system.logflood import MAX_COUNTED, MOST, WINDOW
from mechamap_rt.system.loglevels import NAMES, Levels
from mechamap_rt.system.logline import without_credentials
from mechamap_rt.system.logrecord import (
    MAX_FIELD,
    MAX_MESSAGE,
    MAX_TRACEBACK,
    Record,
    as_json,
    as_text,
    event_of,
    record_of_line,
)


class Threaded(Clock):
    """A clock that may be called from other threads: in a test there are none."""

    def callFromThread(self, function: Any, *arguments: Any) -> None:
        function(*arguments)


class Written:
    """A log whose records are kept.

    :ivar records: those that got through.
    """

    def __init__(self, levels: Levels | None = None) -> None:
        self.clock = Threaded()
        self.records: list[Record] = []
        self.log = Log(self.clock, levels or Levels(), "a7z001", self.records.append)
        self.events = self.of("mechamap_rt.some.where")

    def of(self, name: str) -> Logger:
        return Logger(name, observer=self.log)

    @property
    def messages(self) -> list[str]:
        return [record.message for record in self.records]


@pytest.fixture
def written() -> Written:
    return Written()


class Costly:
    """Says when it is formatted."""

    def __format__(self, how: str) -> str:
        raise AssertionError("it is formatted")

    __str__ = __repr__ = lambda self: self.__format__("")


# levels


@pytest.mark.parametrize("level", NAMES)
def test_from_the_level_on(level: str) -> None:
    written = Written(Levels(level))
    for name in NAMES:
        getattr(written.events, name)(name)
    assert written.messages == list(NAMES[NAMES.index(level) :])


def test_what_is_below_is_never_formatted(written: Written) -> None:
    written.events.debug("It is {costly}", costly=Costly())
    assert not written.records


def test_a_logger_has_its_own_and_the_longest_name_wins() -> None:
    levels = Levels("warn", {"mechamap_rt.bus": "debug", "mechamap_rt.bus.redis": "error"})
    written = Written(levels)
    for name in ("mechamap_rt.bus", "mechamap_rt.bus.link", "mechamap_rt.bus.redis", "mechamap_rt.business", "x"):
        written.of(name).info(name)
    assert written.messages == ["mechamap_rt.bus", "mechamap_rt.bus.link"]
    levels.change("info", {"mechamap_rt.bus": "critical"})
    for name in ("mechamap_rt.bus.link", "x"):
        written.of(name).info(f"again {name}")
    assert written.messages[2:] == ["again x"]
    assert Levels(**levels.members()).members() == levels.members()


def test_names_that_others_make_up_are_not_remembered_for_ever() -> None:
    levels = Levels()
    for number in range(5_000):
        assert levels.wants({"log_namespace": f"n{number}"})
    assert len(levels._known) <= 1024


# records


def test_a_line_of_each_format(written: Written) -> None:
    written.events.warn("Wrong {what}", what="key", request="r-1", connection="a7z001xyz", user=5)
    [record] = written.records
    record = record._replace(time=1_700_000_000.5)
    assert as_text(record).endswith(
        "[mechamap_rt.some.where#warn] Wrong key (request=r-1, connection=a7z001xyz, user=5)"
    )
    assert json.loads(as_json(record)) == {
        "time": "2023-11-14T22:13:20.500Z",
        "level": "warn",
        "logger": "mechamap_rt.some.where",
        "worker": "a7z001",
        "message": "Wrong key",
        "request": "r-1",
        "connection": "a7z001xyz",
        "user": 5,
    }


def test_what_the_message_says_is_not_said_twice(written: Written) -> None:
    written.events.info("User {user} of {request}", user=5, request="r-1", connection=None)
    assert as_text(written.records[0]).endswith("] User 5 of r-1")
    assert json.loads(as_json(written.records[0]))["user"] == 5


def test_a_traceback_is_a_member_and_lines_that_begin_with_a_tab(written: Written) -> None:
    try:
        raise ValueError("no\nway")
    except ValueError:
        written.events.failure("It failed", connection="c1")
    [record] = written.records
    first, *rest = as_text(record).split("\n")
    assert first.endswith("It failed (connection=c1)")
    assert all(line.startswith("\t") for line in rest)
    told = json.loads(as_json(record))
    assert "\n" not in as_json(record)
    assert told["traceback"].startswith("Traceback (most recent call last):\n")
    assert (told["message"], told["level"]) == ("It failed", "critical")


def test_hostile_fields_are_plain_and_short(written: Written) -> None:
    written.events.info("x", request="a\n\x1b\u202e" * 1000, connection=["\r"], user="\ud800")
    [record] = written.records
    for line in (as_text(record), as_json(record)):
        line.encode()
        assert not {"\n", "\r", "\x1b", "\u202e"} & set(line)
    assert len(str(record.request)) < MAX_FIELD * 6


def test_every_record_is_bounded(written: Written) -> None:
    try:
        raise ValueError("ệ" * 1_000_000)
    except ValueError:
        written.events.failure("{text}", text="ệ" * 1_000_000)
    [record] = written.records
    assert len(record.message) == MAX_MESSAGE + 1
    assert len(record.traceback) == MAX_TRACEBACK + 1
    # what the master reads of a worker in one line
    assert len(as_json(record).encode()) < 128 * 1024


def test_a_record_of_a_worker_is_an_event_of_the_master(written: Written) -> None:
    theirs = Record(1.5, "error", "x.y", "a7z003", 3, "It {is} so", " (user=5)", "Trace", "r", "c", 5)
    written.log(event_of(theirs))
    assert written.records == [theirs]
    assert "[x.y#error] [worker 3] It {is} so (user=5)\n\tTrace" in as_text(theirs)
    last_words = record_of_line(b"Fatal\x1b \xff ?token=abc", "a7z003", 3)
    assert last_words.message == "Fatal\\x1b \\xff ?token=***"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("GET /ws?token=abc.def&EIO=4 failed", "GET /ws?token=***&EIO=4 failed"),
        ("<Request uri=/x?a=1&access_token=abc clientproto=HTTP/1.1>", "<Request uri=/x?a=1&access_token=*** clientp"),
        ("Authorization: Bearer abc.DEF-1~+/= and", "Authorization: Bearer *** and"),
        ("it was eyJhbGciOiJIUzI1NiJ9.eyJ1c2VySWQiOjF9.c2lnbmF0dXJl so", "it was *** so"),
        ("it was '12|" + "aB3" * 16 + "' so", "it was '***' so"),
        ("a token is 5 and tokens=3, monkey=1", "a token is 5 and tokens=3, monkey=1"),
    ],
)
def test_what_looks_like_a_credential_is_not_logged(written: Written, text: str, left: str) -> None:
    assert without_credentials(text).startswith(left)
    written.events.info("From {text}", text=text)
    assert f"From {left}" in as_text(written.records[0])


# floods


def flood(written: Written, times: int, text: str = "From {number}") -> None:
    for number in range(times):
        written.events.info(text, number=number)


def test_so_many_of_a_message_and_then_how_many_more(written: Written) -> None:
    flood(written, MOST + 1_234)
    assert len(written.records) == MOST
    written.clock.advance(WINDOW)
    assert len(written.records) == MOST + 1
    told = written.records[-1]
    assert told.message == "… 1,234 more like this in 10 s: From {number}"
    assert (told.logger, told.level) == ("mechamap_rt.some.where", "info")
    written.clock.advance(10 * WINDOW)
    assert len(written.records) == MOST + 1
    flood(written, MOST)
    assert len(written.records) == 2 * MOST + 1
    assert not written.clock.getDelayedCalls()


def test_what_is_suppressed_is_not_formatted(written: Written) -> None:
    flood(written, MOST)
    written.events.info("From {number}", number=Costly())
    written.clock.advance(WINDOW)
    assert written.messages[-1].startswith("… 1 more")


def test_other_messages_loggers_levels_and_errors_are_not_held_back(written: Written) -> None:
    flood(written, MOST * 2)
    written.events.info("Another")
    written.of("x").info("From {number}", number=1)
    written.events.warn("From {number}", number=2)

    def fail(kind: type[Exception]) -> None:
        try:
            raise kind("x")
        except kind:
            written.events.failure("Failed")

    for _ in range(MOST * 2):
        fail(ValueError)
    fail(KeyError)
    assert len(written.records) == MOST + 3 + MOST + 1
    written.clock.advance(WINDOW)
    assert {"… 20 more like this in 10 s: Failed (ValueError)", "… 20 more like this in 10 s: From {number}"} <= set(
        written.messages
    )


def test_a_window_that_is_over_is_told_before_the_next_begins(written: Written) -> None:
    flood(written, MOST + 5)
    written.clock.rightNow += WINDOW
    written.events.info("From {number}", number="new")
    assert written.messages[-2:] == ["… 5 more like this in 10 s: From {number}", "From new"]


def test_at_the_end_all_is_told(written: Written) -> None:
    flood(written, MOST + 5)
    written.clock.advance(1)
    written.log.flood.summarise()
    assert written.messages[-1] == "… 5 more like this in 1 s: From {number}"


def test_who_asks_for_debug_gets_it_all() -> None:
    written = Written(Levels("debug"))
    for number in range(MOST * 3):
        written.events.debug("From {number}", number=number)
    assert len(written.records) == MOST * 3


def test_what_a_worker_has_counted_is_not_counted_again(written: Written) -> None:
    for number in range(MOST * 3):
        written.log(event_of(Record(1.0, "info", "x", "a7z001", 1, f"From {number}")))
    assert len(written.records) == MOST * 3


def test_memory_is_bounded_whatever_is_logged(written: Written) -> None:
    for number in range(MAX_COUNTED * 3):
        flood(written, MOST + 1, f"{number} {{number}}")
    counts = written.log.flood._counts
    assert len(counts) == MAX_COUNTED
    # those that were forgotten have been told before
    assert sum(message.startswith("… 1 more") for message in written.messages) == MAX_COUNTED * 2
    assert all(set(count.event) <= {"log_level", "log_namespace", "like"} for count in counts.values())


def legacy() -> Iterator[dict[str, Any]]:
    for number in range(MOST * 2):
        yield {"log_format": "{log_text}", "log_text": f"Timing out the connection from somewhere, {number}"}


def test_texts_without_a_format_are_told_apart_by_their_beginning(written: Written) -> None:
    for event in legacy():
        written.log(event | {"log_time": 1.0, "log_namespace": "log_legacy"})
    written.log({"log_format": "{log_text}", "log_text": "Another", "log_time": 1.0, "log_namespace": "log_legacy"})
    assert len(written.records) == MOST + 1
