"""An outside receiver of the log: what it misses is told, and what is read ahead for it stays small."""

from __future__ import annotations

import json
import logging
import sqlite3
from pathlib import Path

import msgspec
import pytest

from hub.ahead import Ahead
from hub.delivery import Record
from hub.outlet import OutletStatus
from hub.outlets import selection
from store.records import Event
from store.sqlite import SqliteStore
from tests.support.outlets import Member, Receiver
from tests.support.store_values import new_event


async def test_events_that_were_removed_before_they_came_are_told_and_the_rest_follows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = SqliteStore(tmp_path / "store.db", lock_timeout_s=5)
    await store.open()
    receiver = Receiver()
    first = Member(store, receiver)
    first.store.fail("acquire_lease")
    await first.start()
    await store.append_events([new_event(key) for key in "abcde"])
    await first.crash()
    with sqlite3.connect(tmp_path / "store.db") as connection:
        connection.execute("DELETE FROM events WHERE offset <= 2")
    connection.close()
    second = await Member(store, receiver).start()
    assert await receiver.took(3) == ["c", "d", "e"]
    (told,) = await second.events()
    data = json.loads(told.body)["data"]
    assert data == {"hook": "crm", "reason": "removed", "after": 0, "through": 2}
    await second.stop()
    await store.close()
    errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert errors == ["crm: events up to offset 2 were removed before it had them"]
    caplog.clear()


def event(size: int) -> Event:
    return Event(1, 0, "k", "message.received", 0, b"x" * size)


@pytest.mark.parametrize(
    ("sizes", "next_"),
    [([1000], 100), ([1000] * 100, 100), ([100_000] * 100, 41), ([3_000_000] * 10, 1), ([40_000_000], 1)],
)
def test_large_events_are_read_in_smaller_pages(sizes: list[int], next_: int) -> None:
    ahead = Ahead(lambda _: True)
    ahead.take([event(size) for size in sizes])
    assert ahead.page == next_


@pytest.mark.parametrize(
    ("types", "wanted"),
    [
        (("inbound",), {"in:1", "st:1", "up:1"}),
        (("message.received",), {"in:1"}),
        (("inbound", "task.*"), {"in:1", "st:1", "up:1", "task:1"}),
        (("message.*",), {"in:1", "st:1", "row:1"}),
        (("*",), {"in:1", "st:1", "up:1", "task:1", "row:1"}),
        (("call.connected",), set()),
    ],
)
def test_types_say_which_events(types: tuple[str, ...], wanted: set[str]) -> None:
    events = {
        "in:1": "message.received",
        "st:1": "message.delivered",
        "up:1": "template.status",
        "task:1": "task.created",
        "row:1": "message.sent",
    }
    wants, of_number = selection(types), selection(types, "100")
    placed = [Event(1, 0, key, type, 0, b"{}", phone_number_id="100") for key, type in events.items()]
    assert {one.key for one in placed if wants(one)} == wanted
    assert {one.key for one in placed if of_number(one)} == wanted
    elsewhere = [msgspec.structs.replace(one, phone_number_id="101") for one in placed]
    assert not any(of_number(one) for one in elsewhere)


MINUTE = 60_000


@pytest.mark.parametrize(
    ("record", "behind_since", "troubles"),
    [
        (Record(), 0, False),
        (Record(), 5 * MINUTE + 1, False),
        (Record(), 5 * MINUTE, True),
        (Record(failing_since=5 * MINUTE + 1), 0, False),
        (Record(failing_since=5 * MINUTE), 0, True),
        (Record(paused_at=1, reason="person", failing_since=1), 1, False),
        (Record(paused_at=10 * MINUTE, reason="gone"), 0, True),
        (Record(paused_at=10 * MINUTE, reason="failing"), 0, True),
    ],
)
def test_who_is_behind_for_long_or_paused_by_no_person_is_trouble(
    record: Record, behind_since: int, troubles: bool
) -> None:
    status = OutletStatus("crm", "webhook", "a", "running", True, None, 0, 0, record, behind_since, 0, 0, 0)
    assert status.troubles(10 * MINUTE) is troubles
