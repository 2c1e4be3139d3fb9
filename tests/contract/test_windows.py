"""The ledger of windows on every store: from webhooks to verdicts, with a clock that the test sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from tornado.ioloop import IOLoop

from store.base import Store
from store.log import Log
from store.records import Cursor, Row
from tests.support.faulty_store import FaultyStore
from tests.support.rows import make_row
from tests.support.store_values import lane_lease
from tests.support.webhooks import (
    OUR_ID,
    PHONE,
    USER_ID,
    body,
    entry,
    message_value,
    status,
    system_message,
    text_message,
)
from whatsapp import windows
from whatsapp.contacts import Contacts
from whatsapp.events import build_event
from whatsapp.intake import Intake
from whatsapp.intake_watch import IntakeWatch
from whatsapp.windows import WINDOWS, Windows

MakeStore = Callable[[], Store]

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
NOW = 1_750_000_000_000
OTHER, OTHER_USER = "16505557777", "US.777"


class Rig:
    """Intake, ledger and watch over a store. What the log brings is kept when the test says so."""

    def __init__(self, store: Store) -> None:
        self.now = NOW
        self.store = FaultyStore(store)
        self._seen = 0

    async def start(self, *, leading: bool = True) -> None:
        """Begin as a process does; ``leading``: one that keeps the ledger."""
        store = self.store.as_store()
        self.log = Log(store)
        await self.log.start()
        self.contacts = Contacts(store)
        self.intake = Intake(self.log, self.contacts, store, now_ms=self.clock)
        self.watch = IntakeWatch(store, now_ms=self.clock)
        self.windows = Windows(
            store, self.contacts, self.watch, head=self.log.head, keep_days=35, now_ms=self.clock
        )
        self.log.subscribe(self.watch.notice)
        self.log.subscribe(self.windows.notice)
        if leading:
            self.lease = await lane_lease(store, name=f"consumer:{WINDOWS}")

    def clock(self) -> int:
        return self.now

    async def beat(self) -> None:
        await self.watch._note()

    async def pass_time(self, hours: float) -> None:
        """With a beat a minute; some come less often, as no test can wait for."""
        end = self.now + int(hours * HOUR_MS)
        while self.now < end:
            self.now = min(end, self.now + MINUTE_MS)
            await self.beat()

    async def hear(self, value: dict[str, Any] | None = None, field: str = "messages", **fields: Any) -> None:
        """A webhook; without a value a text of :data:`PHONE`, just said."""
        said = {"timestamp": str(self.now // 1000), "from_user_id": USER_ID, "wamid": f"wamid.{self.now}"}
        value = value or message_value(messages=[text_message(**{**said, **fields})])
        await self.intake.take(body(entry(value, field)))

    async def prove(self) -> None:
        """Something comes for the number."""
        await self.hear(message_value(statuses=[status("delivered", id=f"wamid.S{self.now}")]))

    async def keep(self) -> None:
        """The ledger takes all that is new."""
        events = await self.store.events_after(self._seen, 1000)
        if events:
            self._seen = events[-1].offset
            await self.windows.handle(events, Cursor(WINDOWS, self._seen), self.lease)

    async def closed(self, *contacts: str, **fields: Any) -> set[str]:
        """Those of these contacts to whom a message would not be sent."""
        rows: list[Row] = [
            make_row(n, lane=OUR_ID, contact=contact, **fields) for n, contact in enumerate(contacts)
        ]
        shut = await self.windows.closed(rows)
        return {row.contact for row in rows if row.id in shut}


@pytest.fixture
def rig(io_loop: IOLoop, store: Store) -> Iterator[Rig]:
    rig = Rig(store)
    io_loop.run_sync(rig.start)
    yield rig


async def a_day_later(rig: Rig, *, kept: bool = True) -> None:
    """:data:`PHONE` wrote a day and five minutes ago, and nothing was missed since."""
    await rig.store.note_intake(rig.now, MINUTE_MS)
    await rig.hear()
    if kept:
        await rig.keep()
    rig.now += 24 * HOUR_MS + 5 * MINUTE_MS
    await rig.store.note_intake(rig.now, 10**12)
    await rig.beat()
    await rig.prove()


async def test_a_window_closes_a_day_and_a_minute_after_the_last_word(rig: Rig) -> None:
    await rig.store.note_intake(rig.now - MINUTE_MS, MINUTE_MS)
    await rig.hear()
    await rig.keep()
    rig.now += 24 * HOUR_MS + MINUTE_MS - 1
    await rig.store.note_intake(rig.now, 10**12)
    await rig.beat()
    await rig.prove()
    assert await rig.closed(PHONE, OTHER) == set()
    rig.now += 1
    assert await rig.closed(PHONE, OTHER) == {PHONE}
    await rig.hear()
    assert await rig.closed(PHONE) == set()


async def test_without_a_gap_of_a_minute_windows_close(rig: Rig) -> None:
    await rig.beat()
    await rig.hear()
    await rig.keep()
    await rig.pass_time(24.1)
    await rig.prove()
    assert await rig.closed(PHONE) == {PHONE}


@pytest.mark.parametrize("gap_ms", [MINUTE_MS, MINUTE_MS + 1])
async def test_a_gap_of_more_than_a_minute_opens_all_to_doubt_for_a_day(rig: Rig, gap_ms: int) -> None:
    await a_day_later(rig)
    assert await rig.closed(PHONE) == {PHONE}
    rig.now += gap_ms
    await rig.beat()
    await rig.prove()
    assert await rig.closed(PHONE) == ({PHONE} if gap_ms == MINUTE_MS else set())
    rig.now += 24 * HOUR_MS + MINUTE_MS
    await rig.store.note_intake(rig.now, 10**12)
    await rig.beat()
    await rig.prove()
    assert await rig.closed(PHONE) == {PHONE}


async def test_while_nothing_notes_the_intake_windows_are_in_doubt(rig: Rig) -> None:
    await a_day_later(rig)
    rig.now += MINUTE_MS + 1
    assert await rig.closed(PHONE) == set()


async def test_while_nothing_comes_for_the_number_its_windows_are_in_doubt(rig: Rig) -> None:
    await a_day_later(rig)
    await rig.pass_time(1)
    assert await rig.closed(PHONE) == {PHONE}
    await rig.pass_time(1 / 60)
    assert await rig.closed(PHONE) == set()
    await rig.prove()
    assert await rig.closed(PHONE) == {PHONE}


async def test_what_comes_for_another_number_proves_nothing(rig: Rig) -> None:
    await a_day_later(rig)
    await rig.pass_time(2)
    value = message_value(statuses=[status("delivered")])
    value["metadata"]["phone_number_id"] = "another"
    await rig.hear(value)
    assert await rig.closed(PHONE) == set()


async def test_what_we_tell_ourselves_proves_nothing(rig: Rig) -> None:
    await a_day_later(rig)
    await rig.pass_time(2)
    told = build_event("message.sent", "row:a:sent", rig.now, {}, phone_number_id=OUR_ID, contact=PHONE)
    await rig.log.append([told])
    assert await rig.closed(PHONE) == set()


async def test_a_clock_that_jumps_opens_all_to_doubt(rig: Rig) -> None:
    await a_day_later(rig)
    rig.now += 30 * HOUR_MS
    await rig.prove()
    assert await rig.closed(PHONE) == set()
    await rig.beat()
    assert await rig.closed(PHONE) == set()


async def test_a_late_word_opens_all_to_doubt(rig: Rig) -> None:
    await a_day_later(rig)
    await rig.hear(timestamp=str((rig.now - 11 * MINUTE_MS) // 1000), **{"from": OTHER})
    await rig.keep()
    assert await rig.closed(PHONE) == set()


async def test_what_cannot_be_read_opens_all_to_doubt(rig: Rig) -> None:
    await a_day_later(rig)
    await rig.hear(message_value(messages=["no object"]))
    await rig.keep()
    assert await rig.closed(PHONE) == set()


async def test_what_may_be_a_word_of_anybody_closes_nothing_before_the_ledger_has_it(rig: Rig) -> None:
    await a_day_later(rig)
    await rig.hear(message_value(messages=["no object"]))
    assert await rig.closed(PHONE) == set()


@pytest.mark.parametrize("named", [{"phone_number_id": OUR_ID}, {"contact": PHONE}])
async def test_a_word_that_does_not_name_both_closes_nothing_before_the_ledger_has_it(
    rig: Rig, named: dict[str, Any]
) -> None:
    await a_day_later(rig)
    assert await rig.closed(PHONE) == {PHONE}
    said = build_event("message.received", "in:a", rig.now, {"message": {}}, **named)
    await rig.log.append([said])
    assert await rig.closed(PHONE) == set()
    await rig.keep()
    # The ledger could not tell either whose it is.
    assert await rig.closed(PHONE) == set()


@pytest.mark.parametrize(("hours_ago", "shut"), [(0, set()), (30, {PHONE})])
async def test_an_event_that_the_ledger_lost_opens_all_to_doubt_for_a_day(
    rig: Rig, hours_ago: int, shut: set[str]
) -> None:
    await a_day_later(rig)
    (event, *_) = await rig.store.events_after(0, 1)
    await rig.windows.lost(msgspec.structs.replace(event, at=rig.now - hours_ago * HOUR_MS))
    await rig.beat()  # by what is kept
    assert await rig.closed(PHONE) == shut


async def test_a_log_that_is_read_again_from_long_ago_breaks_nothing(rig: Rig) -> None:
    rig.now -= 30 * HOUR_MS
    await rig.hear(message_value(messages=["no object"]))
    rig.now += 30 * HOUR_MS
    await a_day_later(rig, kept=False)
    await rig.keep()
    assert await rig.closed(PHONE) == {PHONE}


async def test_a_system_message_opens_nothing(rig: Rig) -> None:
    await a_day_later(rig)
    await rig.hear(message_value(messages=[system_message("customer_identity_changed", user=USER_ID)]))
    await rig.keep()
    assert await rig.closed(PHONE) == {PHONE}


async def test_a_call_opens_the_window_of_who_called(rig: Rig) -> None:
    await a_day_later(rig)
    call = {"id": "wacid.A", "from_user_id": USER_ID, "timestamp": str(rig.now // 1000), "event": "connect"}
    await rig.hear(message_value(calls=[call]), "calls")
    # Whose it was, nobody has looked up yet.
    assert await rig.closed(PHONE) == set()
    await rig.keep()
    assert await rig.closed(PHONE) == set()
    assert await rig.store.find_inbound(OUR_ID, [PHONE]) == {PHONE: rig.now // 1000 * 1000}


async def test_a_process_that_starts_waits_until_the_ledger_has_caught_up(rig: Rig) -> None:
    await a_day_later(rig, kept=False)
    await rig.store.note_inbound([windows.Window(OUR_ID, PHONE, NOW - HOUR_MS)])
    await rig.hear()
    # Another process, which has seen none of this.
    await rig.start()
    await rig.beat()
    await rig.prove()
    assert await rig.closed(PHONE) == set()
    await rig.keep()
    assert await rig.store.load_cursor(WINDOWS) > 0
    assert await rig.closed(PHONE) == set()
    rig.now += 24 * HOUR_MS + 2 * MINUTE_MS
    await rig.store.note_intake(rig.now, 10**12)
    await rig.beat()
    await rig.prove()
    assert await rig.closed(PHONE) == {PHONE}


async def test_more_than_memory_holds_waits_for_the_ledger(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await a_day_later(rig)
    monkeypatch.setattr(windows, "_MOST", 2)
    await rig.hear()
    for n in range(3):
        await rig.hear(**{"from": f"1650555000{n}", "from_user_id": f"US.{n}", "wamid": f"wamid.{n}"})
    # Dropped from memory, and not in the ledger yet.
    assert await rig.closed(PHONE) == set()
    await rig.keep()
    assert await rig.closed(PHONE) == set()


async def test_a_word_that_another_process_took_in_closes_nothing_until_it_is_seen(
    rig: Rig, make_store: MakeStore
) -> None:
    if rig.store.atomic:
        pytest.skip("a store for one process")
    await a_day_later(rig)
    assert await rig.closed(PHONE) == {PHONE}
    store = make_store()
    await store.open()
    other = Rig(store)
    other.now = rig.now
    await other.start(leading=False)
    await other.hear()
    # The log of this process is a moment behind, and the ledger has not got it.
    assert await rig.closed(PHONE) == set()
    await store.close()


async def test_a_repeated_batch_changes_nothing(rig: Rig) -> None:
    await rig.hear()
    await rig.keep()
    before = await rig.store.find_inbound(OUR_ID, [PHONE])
    rig._seen = 0
    await rig.keep()
    assert before == await rig.store.find_inbound(OUR_ID, [PHONE]) != {}


async def test_a_contact_without_a_user_id_is_never_shut_out(rig: Rig) -> None:
    """Tomorrow the same person may write under a user id alone, and nobody would know."""
    await rig.store.note_intake(rig.now, MINUTE_MS)
    await rig.hear(from_user_id=None)
    await rig.keep()
    rig.now += 25 * HOUR_MS
    await rig.store.note_intake(rig.now, 10**12)
    await rig.beat()
    await rig.prove()
    assert await rig.closed(PHONE) == set()
    # Once known by both, a word under either counts.
    await rig.hear()
    await rig.keep()
    rig.now += 25 * HOUR_MS
    await rig.store.note_intake(rig.now, 10**12)
    await rig.beat()
    await rig.prove()
    assert await rig.closed(PHONE) == {PHONE}
    await rig.hear(**{"from": None})
    await rig.keep()
    await rig.start()
    await rig.beat()
    await rig.prove()
    assert await rig.closed(PHONE) == set()


async def test_two_contacts_that_turn_out_to_be_one_share_a_window(rig: Rig) -> None:
    await a_day_later(rig)
    # The same phone under another user id, and no word of a change: another person has the phone now.
    await rig.hear(from_user_id=OTHER_USER)
    # A message that was accepted for the former one goes to the same phone.
    assert await rig.closed(PHONE) == set()
    await rig.keep()
    await rig.start()
    await rig.beat()
    await rig.prove()
    assert await rig.closed(PHONE) == set()
    rig.now += 25 * HOUR_MS
    await rig.store.note_intake(rig.now, 10**12)
    await rig.beat()
    await rig.prove()
    assert await rig.closed(PHONE, OTHER_USER) == {PHONE, OTHER_USER}
    # A word that is only in memory yet counts for both.
    await rig.hear(from_user_id=OTHER_USER)
    assert await rig.closed(PHONE) == set()


async def test_a_changed_number_keeps_the_window(rig: Rig) -> None:
    await a_day_later(rig)
    changed = system_message("user_changed_number", wa_id=OTHER, user_id=OTHER_USER, user=USER_ID)
    await rig.hear(message_value(messages=[changed]))
    await rig.hear(**{"from": OTHER, "from_user_id": OTHER_USER})
    await rig.keep()
    await rig.start()
    await rig.beat()
    await rig.prove()
    assert (await rig.contacts.find_text(OTHER)) == PHONE
    assert await rig.closed(PHONE) == set()


async def test_templates_fallbacks_and_groups_ask_nobody(rig: Rig) -> None:
    await a_day_later(rig)
    rig.store.fail_all()
    template = msgspec.json.encode({"type": "template", "template": {"name": "a"}})
    assert await rig.closed(PHONE, payload=template) == set()
    assert await rig.closed(PHONE, fell_back=True) == set()
    assert await rig.closed(f"group:{PHONE}") == set()
    assert not rig.store.calls
    # What has to ask gets no answer, and is sent.
    assert await rig.closed(PHONE) == set()
    assert rig.store.calls["find_inbound"] == 1


async def test_a_batch_is_judged_by_one_read(rig: Rig) -> None:
    await a_day_later(rig)
    rig.store.hold("find_inbound")
    rig.store.heal()
    assert await rig.closed(PHONE, *(f"c{n}" for n in range(100))) == {PHONE}
    assert rig.store.calls["find_inbound"] == 1
    rig.watch._heard_at.clear()
    assert await rig.closed(PHONE) == set()
    assert rig.store.calls["find_inbound"] == 1


async def test_who_has_just_written_costs_no_read(rig: Rig) -> None:
    await a_day_later(rig)
    await rig.hear()
    rig.store.fail_all()
    assert await rig.closed(PHONE) == set()
    assert not rig.store.calls


async def test_who_is_not_heard_from_for_long_is_forgotten(rig: Rig) -> None:
    await rig.hear(timestamp=str((rig.now - 36 * 24 * HOUR_MS) // 1000))
    await rig.hear(**{"from": OTHER, "from_user_id": OTHER_USER, "wamid": "wamid.B"})
    await rig.keep()
    assert (await rig.store.find_inbound(OUR_ID, [PHONE, OTHER])).keys() == {OTHER}


async def test_where_two_contacts_are_one_person_the_last_word_of_either_counts(rig: Rig) -> None:
    await a_day_later(rig)
    await rig.hear(**{"from": OTHER}, from_user_id=OTHER_USER)
    await rig.keep()
    assert await rig.closed(PHONE) == {PHONE}
    merged = build_event("contact.merged", "merged", rig.now, {"gone": OTHER, "kept": PHONE}, contact=PHONE)
    await rig.log.append([merged])
    # Nothing is said before the ledger has it, and then what the other said counts, also in a new process.
    assert await rig.closed(PHONE) == set()
    await rig.keep()
    assert await rig.closed(PHONE) == set()
    await rig.start(leading=False)
    await rig.beat()
    await rig.prove()
    assert await rig.closed(PHONE) == set()
    found = await rig.store.find_inbound(OUR_ID, [PHONE, OTHER])
    assert found[PHONE] == found[OTHER]
