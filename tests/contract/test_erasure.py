"""The erasing of a contact on every store: what goes, what stays, and that nothing is left of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import bson
import msgspec
import pytest
from tornado.ioloop import IOLoop

from store.base import Store
from store.errors import StoreUnavailable
from store.log import Log
from store.mongo import MongoStore
from store.records import Change, Cursor, Event, KnownMedia, Lease, NewRow, NewTask, Suppression
from store.states import State
from tests.support.faulty_store import FaultyStore
from tests.support.store_values import bring
from tests.support.waiting import GUARD_S, eventually
from tests.support.webhooks import OUR_ID, PHONE, USER_ID, body, entry, message_value, status, text_message
from whatsapp import erasure
from whatsapp.contacts import Contacts
from whatsapp.conversations import CONVERSATIONS, ConversationKeeper
from whatsapp.erased import REMEMBERED, Erased
from whatsapp.erasure import Erasures
from whatsapp.erasure_rules import digests
from whatsapp.identity import Address
from whatsapp.intake import Intake
from whatsapp.intake_watch import IntakeWatch
from whatsapp.opt_out import OptOutWords
from whatsapp.retry import RetryPolicy
from whatsapp.suppressions import SUPPRESSIONS, Suppressions
from whatsapp.tracker import Tracker
from whatsapp.windows import WINDOWS, Windows

NOW = 1_750_000_000_000
OTHER, OTHER_USER, NAME = "16505557777", "US.777", "Annabelle Quux"
TEXTS = ("my secret illness", "stop", "a call to me", "our answer to her", "data-of-the-caller")
TASK = "0190163d-8694-739b-aea5-966c26f8ad91"
WAMIDS = ("wamid.HBgTheirs1", "wamid.HBgTheirs2", "wamid.HBgOurs1")
TRACES = tuple(one.encode() for one in (PHONE, USER_ID, NAME, *TEXTS[:1], *TEXTS[2:], *WAMIDS))

Handler = Callable[[list[Event], Cursor, Lease], Coroutine[Any, Any, None]]


class Rig:
    """One process over a store: intake, the consumers that keep something of contacts, and the erasing."""

    def __init__(self, store: Store, owner: str = "me") -> None:
        self.faulty = FaultyStore(store)
        self.store = self.faulty.as_store()
        self.owner = owner
        self.now = NOW
        self.removed: list[str] = []

    async def start(self) -> None:
        store, clock = self.store, lambda: self.now
        self.log = Log(store)
        await self.log.start()
        self.erased = Erased(store, now_ms=clock)
        await self.erased.load()
        self.contacts = Contacts(store, returning=self.erased.returning)
        self.intake = Intake(self.log, self.contacts, store, now_ms=clock, erased=self.erased)
        watch = IntakeWatch(store, now_ms=clock)
        self.windows = Windows(store, self.contacts, watch, head=self.log.head, keep_days=35, now_ms=clock)
        words = OptOutWords(["stop"], ["start"])
        self.suppressions = Suppressions(store, self.contacts, words, now_ms=clock)
        # These work while the test has a call of the erasing's fail.
        real = self.faulty.real
        contacts = Contacts(real)
        self.consumers: dict[str, Any] = {
            WINDOWS: Windows(real, contacts, watch, head=0, keep_days=35, now_ms=clock),
            SUPPRESSIONS: Suppressions(real, contacts, words, now_ms=clock),
            CONVERSATIONS: ConversationKeeper(real),
        }
        self.erasures = Erasures(
            store,
            self.log,
            self.contacts,
            self.erased,
            numbers=[OUR_ID],
            consumers=list(self.consumers),
            forget=[
                self.log.forget,
                self.contacts.forget,
                self.windows.forget,
                self.suppressions.forget,
            ],
            remove_file=self._remove_file,
            owner=self.owner,
            now_ms=clock,
            every_s=0.0,
        )
        for part in (self.erased, self.contacts, self.windows, self.suppressions, self.erasures):
            self.log.subscribe(part.notice)
        await self.erasures.begin()

    async def _remove_file(self, media_id: str) -> None:
        self.removed.append(media_id)

    async def hear(self, *messages: dict[str, Any], **parts: Any) -> None:
        people = [
            {"profile": {"name": NAME}, "wa_id": PHONE, "user_id": USER_ID},
            {"profile": {"name": "Bob"}, "wa_id": OTHER, "user_id": OTHER_USER},
        ]
        said = {"messages": list(messages)} if messages else {}
        await self.intake.take(body(entry(message_value(contacts=people, **said, **parts))))

    async def consume(self) -> None:
        """Have every consumer take what is new."""
        store = self.faulty.real
        for name, consumer in self.consumers.items():
            lease = await store.acquire_lease(f"consumer:{name}", "consumers", 60_000)
            assert lease is not None
            while events := await store.events_after(await store.load_cursor(name), 100):
                await consumer.handle(events, Cursor(name, events[-1].offset), lease)

    async def write_to(
        self, address: Address, state: State, task_id: str = TASK, text: str = TEXTS[3]
    ) -> str:
        contact = (await self.contacts.resolve([address]))[address]
        data = TEXTS[4] if address.phone == PHONE else "for Bob"
        payload = msgspec.json.encode({"to": f"+{address.phone}", "type": "text", "text": {"body": text}})
        rows = [NewRow(0, OUR_ID, contact, 1, 1000, payload, callback_data=data, fallback=payload)]
        assert await self.store.create_task(NewTask(task_id, "text", "api", 1, self.now), rows)
        lease = await self.store.acquire_lease(f"lane:{OUR_ID}", self.owner, 60_000)
        assert lease is not None
        await bring(self.store, lease, {f"{task_id}-0": state})
        wamid = WAMIDS[2] if address.phone == PHONE else "wamid.B9"
        note = msgspec.json.encode({"to": address.phone, "text": text})
        if state is State.SENT:
            delivered = Change(f"{task_id}-0", State.DELIVERED, self.now, wamid=wamid, note=note, error=note)
            assert await self.store.apply([delivered]) == [True]
        return f"{task_id}-0"

    async def erase(self, text: str = PHONE) -> dict[str, Any]:
        """Ask for it, with consumers at work beside it, until it is done."""
        asked = await self.erasures.ask(text)
        assert asked is not None
        await self.finish(asked.id)
        told = await self.erasures.find(asked.id)
        assert told is not None
        return told

    async def look(self) -> None:
        """Erase what is asked for, as far as it goes, with consumers at work beside it."""
        beside = asyncio.Task(self._keep_consuming())
        try:
            await self.erasures.look()
        finally:
            beside.cancel()

    async def finish(self, id: str) -> None:
        await self.look()
        # And once more, as every process does when it hears that somebody was erased.
        await self.erasures.look()
        found = await self.store.find_erasure(id)
        assert found is not None and found.done_at

    async def _keep_consuming(self) -> None:
        while True:
            await self.consume()
            await asyncio.sleep(0.005)

    async def events(self) -> list[Event]:
        return await self.store.events_after(0, 1000)


@pytest.fixture(autouse=True)
def _quick() -> Iterator[None]:
    with mock.patch.object(erasure, "_IN_TIME_S", 0.0), mock.patch.object(erasure, "_NOTED", 1):
        yield


@pytest.fixture
def rig(io_loop: IOLoop, store: Store) -> Iterator[Rig]:
    rig = Rig(store)
    io_loop.run_sync(rig.start)
    yield rig


def theirs(n: int, text: str | None, **fields: Any) -> dict[str, Any]:
    return text_message(WAMIDS[n], text, from_user_id=USER_ID, **fields)


def others(wamid: str, text: str) -> dict[str, Any]:
    return text_message(wamid, text, **{"from": OTHER}, from_user_id=OTHER_USER)


async def fill(rig: Rig) -> str:
    """Everything that may be kept of somebody, among what is of others; the id of the row to them."""
    store = rig.store
    image = {"id": "4711", "mime_type": "image/png", "caption": TEXTS[2]}
    await rig.hear(theirs(0, TEXTS[0]), others("wamid.B1", "hello"))
    await rig.hear(theirs(1, None, type="image", image=image), others("wamid.B2", f"ask +{PHONE}!"))
    row = await rig.write_to(Address(PHONE, USER_ID), State.SENT)
    await rig.write_to(Address(OTHER, OTHER_USER), State.SENT, TASK.replace("0", "1"), "to Bob")
    await rig.intake.take(body(entry(message_value(messages=["broken", {"from": PHONE, "note": TEXTS[0]}]))))
    contact = await rig.contacts.find_text(PHONE)
    await store.claim_once(f"autoreply:rule:{contact}", f"in:messages:{WAMIDS[0]}", NOW, 1000)
    await store.claim_once("autoreply:rule:somebody", "token", NOW, 1000)
    for key, kept in (
        ("/api/x\nk1", f'{{"wa_id":"{PHONE}"}}'),
        ("/api/x\nk2", "{}"),
        (f"/api/{PHONE}\nk", "{}"),
    ):
        await store.claim_answer(key, "digest", "me", NOW, hold_ms=1, keep_ms=1000)
        await store.keep_answer(key, 200, kept.encode())
    await store.remember_media(KnownMedia(OUR_ID, "ab", "image/png", "m", NOW + 1), NOW)
    await rig.consume()
    return row


def everything(store: Store, tmp_path: Path) -> Callable[[], Coroutine[Any, Any, bytes]]:
    """All bytes that a store keeps."""

    def read() -> bytes:
        return b"".join(path.read_bytes() for path in sorted(tmp_path.glob("store.db*")))

    async def of_files() -> bytes:
        return read()

    async def of_database() -> bytes:
        assert isinstance(store, MongoStore)
        database = store._db._database
        assert database is not None
        found = b""
        for name in await database.list_collection_names():
            async for document in database[name].find({}):
                found += bson.encode(document)
        return found

    return of_files if store.atomic else of_database


async def test_nothing_of_them_is_left_and_all_of_others(rig: Rig, store: Store, tmp_path: Path) -> None:
    kept = everything(store, tmp_path)
    row = await fill(rig)
    before = await rig.events()
    there = await kept()
    assert [trace for trace in TRACES if trace not in there] == []
    told = await rig.erase()
    assert (told["state"], told["messages"], told["files"]) == ("done", 1, 1)
    left = await kept()
    assert [trace for trace in TRACES if trace in left] == []
    assert await rig.store.find_rows([row]) == {}
    assert await rig.store.find_task(TASK) is None
    after = await rig.events()
    assert [event.offset for event in after[: len(before)]] == [event.offset for event in before]
    assert [event.prev for event in after[: len(before)]] == [event.prev for event in before]
    for was, event in zip(before, after, strict=False):
        if was.contact == OTHER and PHONE.encode() not in was.body:
            assert event == was
    assert [event.type for event in after].count("event.erased") == told["events"] - 1
    # What somebody else wrote stays, but for the address.
    (asked,) = [event for event in after if b"wamid.B2" in event.body]
    assert msgspec.json.decode(asked.body)["data"]["text"] == "ask +[erased]!"
    assert [one.wamid for one in await rig.store.said_of(OTHER, 10)] == ["wamid.B1"]
    other = await rig.store.find_task(TASK.replace("0", "1"))
    assert other is not None and other.counts == {State.DELIVERED: 1}
    assert rig.removed == ["4711"]


async def test_subscribers_learn_whom_to_erase_and_nobody_else_does(rig: Rig) -> None:
    await fill(rig)
    told = await rig.erase()
    (event,) = [event for event in await rig.events() if event.type == "contact.erased"]
    data = msgspec.json.decode(event.body)["data"]
    assert (data["erasure"], data["media"], event.contact) == (told["erasure"], ["4711"], "")
    assert set(digests(data["salt"], [PHONE])) <= set(data["contacts"])
    assert set(digests(data["salt"], [USER_ID])) <= set(data["contacts"])
    assert not set(digests(data["salt"], [OTHER])) & set(data["contacts"])


async def test_nothing_of_them_is_read_from_memory(rig: Rig) -> None:
    await fill(rig)
    assert any(PHONE.encode() in event.body for event in await rig.log.read(0, 1000))
    await rig.erase()
    assert not any(PHONE.encode() in event.body for event in await rig.log.read(0, 1000))
    assert rig.contacts.cached(Address(PHONE, USER_ID)) is None
    assert await rig.store.aliases_of(PHONE) == []
    assert await rig.store.find_inbound(OUR_ID, [PHONE, OTHER]) == {OTHER: 1_749_416_383_999}
    assert await rig.store.threads_of(PHONE) == []


async def test_what_meta_repeats_of_them_is_not_told_again(rig: Rig) -> None:
    await fill(rig)
    await rig.erase()
    before = await rig.events()
    await rig.hear(theirs(0, TEXTS[0]), others("wamid.B1", "hello"))
    await rig.intake.take(body(entry(message_value(messages=["broken", {"from": PHONE, "note": TEXTS[0]}]))))
    assert [event.type for event in (await rig.events())[len(before) :]] in ([], ["webhook.unparsed"])
    assert not any(event.contact == PHONE for event in await rig.events())
    assert await rig.store.aliases_of(PHONE) == []


async def test_a_late_status_of_what_is_gone_is_nobodys(rig: Rig) -> None:
    row = await fill(rig)
    await rig.erase()
    before = await rig.events()
    read = status("read", id=WAMIDS[2], biz_opaque_callback_data=f"{row}.1", recipient_user_id=USER_ID)
    await rig.hear(statuses=[read])
    assert await rig.events() == before
    assert await rig.store.aliases_of(PHONE) == []


async def test_who_reads_the_log_anew_finds_nothing_of_them(rig: Rig) -> None:
    await fill(rig)
    await rig.erase()
    tracker = Tracker(rig.store, policy=RetryPolicy(8), random=lambda: 0.5, now_ms=lambda: rig.now)
    events = await rig.events()
    for name, consumer in {**rig.consumers, "tracker": tracker}.items():
        lease = await rig.store.acquire_lease(f"consumer:{name}", "consumers", 60_000)
        assert lease is not None
        await consumer.handle(events, Cursor(name, events[-1].offset), lease)
    assert await rig.store.said_of(PHONE, 10) == []
    assert await rig.store.find_inbound(OUR_ID, [PHONE]) == {}
    assert await rig.store.aliases_of(PHONE) == []


async def test_however_many_opt_outs_are_remembered_those_who_come_are_looked_up_alone(rig: Rig) -> None:
    remembered = [Suppression(f"{REMEMBERED}{n:04}", NOW, 0, "opted_out", "word") for n in range(1200)]
    await rig.store.put_suppressions(remembered)
    rig.faulty.calls.clear()
    await rig.erased.load()
    await rig.contacts.resolve([Address(str(16505550000 + n)) for n in range(3)])
    assert (rig.faulty.calls["list_suppressions"], rig.faulty.calls["find_suppressions"]) == (1, 1)


async def test_an_opt_out_that_was_remembered_ends_at_an_operators_word(rig: Rig) -> None:
    await rig.hear(theirs(0, "STOP"))
    await rig.consume()
    await rig.erase()
    for one in await rig.store.list_suppressions(10):
        await rig.suppressions.put([Suppression(one.contact, 0, rig.now, one.reason, "api")])
    found = await rig.contacts.resolve([Address(PHONE)])
    assert await rig.store.find_suppressions(list(found.values())) == {}


async def test_who_writes_again_is_a_new_contact(rig: Rig) -> None:
    await fill(rig)
    await rig.erase()
    await rig.hear(text_message("wamid.New", "me again", from_user_id=USER_ID))
    await rig.consume()
    assert [one.wamid for one in await rig.store.said_of(PHONE, 10)] == ["wamid.New"]
    # And may be erased again.
    assert (await rig.erase(USER_ID))["state"] == "done"
    assert await rig.store.said_of(PHONE, 10) == []


async def test_an_opt_out_outlives_its_contact(rig: Rig) -> None:
    await rig.hear(theirs(0, "STOP"))
    await rig.consume()
    assert set(await rig.store.find_suppressions([PHONE])) == {PHONE}
    await rig.erase()
    assert await rig.store.find_suppressions([PHONE]) == {}
    listed = await rig.store.list_suppressions(10)
    assert listed and all(one.contact.startswith(REMEMBERED) and one.note == "erased" for one in listed)
    # A broadcast meets them anew, by either address, in this process or in another.
    for rig_now in (rig, await another(rig)):
        address = Address(PHONE) if rig_now is rig else Address(user_id=USER_ID)
        contact = (await rig_now.contacts.resolve([address]))[address]
        assert set(await rig.store.find_suppressions([contact])) == {contact}
    found = await rig.contacts.resolve([Address(OTHER)])
    assert await rig.store.find_suppressions(list(found.values())) == {}


async def another(rig: Rig) -> Rig:
    """A process that starts later over the same store."""
    other = Rig(rig.store, "another")
    await other.start()
    return other


async def test_what_is_queued_is_cancelled_and_what_is_under_way_waited_for(rig: Rig) -> None:
    await rig.hear(theirs(0, "hi"))
    await rig.consume()
    sending = await rig.write_to(Address(PHONE, USER_ID), State.SENDING)
    queued = await rig.write_to(Address(PHONE, USER_ID), State.QUEUED, TASK.replace("0", "2"))
    asked = await rig.erasures.ask(PHONE)
    assert asked is not None
    runs = asyncio.Task(rig.erasures.run())
    beside = asyncio.Task(rig._keep_consuming())

    async def waits() -> bool | None:
        told = await rig.erasures.find(asked.id)
        return (told is not None and told["state"] == "waiting") or None

    await eventually(waits)
    found = await rig.store.find_rows([sending, queued])
    assert found[queued].row.state is State.CANCELLED
    assert found[sending].row.state is State.SENDING
    await rig.store.apply([Change(sending, State.SENT, NOW, wamid=WAMIDS[2])])

    async def done() -> bool | None:
        told = await rig.erasures.find(asked.id)
        return (told is not None and told["state"] == "done") or None

    await eventually(done)
    for task in (runs, beside):
        task.cancel()
    await asyncio.wait({runs, beside})
    assert await rig.store.find_rows([sending, queued]) == {}
    assert not any(PHONE.encode() in event.body for event in await rig.events())


async def test_who_is_waited_for_keeps_nobody_else_waiting(rig: Rig) -> None:
    await rig.hear(theirs(0, "hi"), others("wamid.B1", "hello"))
    await rig.consume()
    await rig.write_to(Address(PHONE, USER_ID), State.SENDING)
    first = await rig.erasures.ask(PHONE)
    rig.now += 1
    second = await rig.erasures.ask(OTHER)
    assert first is not None and second is not None
    with mock.patch.object(erasure, "_TOGETHER", 1):
        with pytest.raises(erasure._NotYet):
            await rig.look()
        await rig.look()
    told = [await rig.erasures.find(asked.id) for asked in (first, second)]
    assert [one["state"] for one in told if one is not None] == ["waiting", "done"]


STEPS = [
    "read_contact",
    "search_shelf",
    "find_rows",
    "put_erasure",
    "list_cursors",
    "erase",
    "events_after",
    "rewrite_events",
    "find_suppressions",
    "forget_contacts",
    "purge",
    "append_events",
]


@pytest.mark.parametrize("step", STEPS)
async def test_what_breaks_off_at_any_step_is_done_by_the_next_process(
    rig: Rig, store: Store, tmp_path: Path, step: str
) -> None:
    await fill(rig)
    await rig.hear(theirs(2, "STOP"))
    await rig.consume()
    asked = await rig.erasures.ask(PHONE)
    assert asked is not None
    rig.faulty.fail(step)
    with pytest.raises(StoreUnavailable):
        await rig.look()
    rig.faulty.heal()
    after = await another(rig)
    await after.finish(asked.id)
    await rig.erasures.look()
    left = await everything(store, tmp_path)()
    assert [trace for trace in TRACES if trace in left] == []
    assert [event.type for event in await rig.events()].count("contact.erased") == 1
    assert after.removed == rig.removed == ["4711"]
    contact = (await after.contacts.resolve([Address(PHONE)]))[Address(PHONE)]
    assert set(await store.find_suppressions([contact])) == {contact}


async def test_a_log_that_was_gone_through_is_not_gone_through_again(rig: Rig) -> None:
    await fill(rig)
    asked = await rig.erasures.ask(PHONE)
    assert asked is not None
    rig.faulty.fail("forget_contacts")
    with pytest.raises(StoreUnavailable):
        await rig.look()
    rig.faulty.heal()
    rig.faulty.hold("rewrite_events")
    await rig.finish(asked.id)
    assert rig.faulty.calls["rewrite_events"] == 0


async def test_who_is_to_be_erased_already_is_not_asked_for_twice(rig: Rig) -> None:
    await fill(rig)
    first = await rig.erasures.ask(PHONE)
    assert first is not None
    assert await rig.erasures.ask(USER_ID) == first
    other = await rig.erasures.ask(OTHER)
    assert other is not None and other.id != first.id
    await rig.look()
    for one in (first, other):
        told = await rig.erasures.find(one.id)
        assert told is not None and told["state"] == "done"
    assert await rig.erasures.ask("nobody/at/all") is None
    assert await rig.erasures.find("no-such") is None


async def test_a_phone_that_is_somebody_elses_by_now_stays_theirs(rig: Rig) -> None:
    """The phone was given to somebody with another user id; the one before is erased by the user id."""
    await rig.hear(theirs(0, TEXTS[0]))
    await rig.hear(text_message("wamid.C", "new owner", from_user_id="US.42", timestamp="1749416999"))
    await rig.consume()
    new = (await rig.contacts.resolve([Address(PHONE, "US.42")]))[Address(PHONE, "US.42")]
    await rig.erase(USER_ID)
    assert [one.wamid for one in await rig.store.said_of(new, 10)] == ["wamid.C"]
    found = await rig.store.find_aliases([PHONE, USER_ID])
    assert set(found) == {PHONE}
    assert [event.contact for event in await rig.events() if b"wamid.C" in event.body] == [new]


async def test_who_had_the_phone_before_stays_where_its_new_owner_is_erased(rig: Rig) -> None:
    """Their key is that phone still, though it leads to somebody else by now."""
    await rig.hear(theirs(0, TEXTS[0]))
    await rig.hear(text_message("wamid.C", "new owner", from_user_id="US.42", timestamp="1749416999"))
    row = await rig.write_to(Address("", USER_ID), State.SENT)
    await rig.consume()
    await rig.erase("US.42")
    found = await rig.store.find_aliases([PHONE, USER_ID, "US.42"])
    assert {alias: one.contact for alias, one in found.items()} == {USER_ID: PHONE}
    assert [one.contact for one in await rig.store.threads_of(PHONE)] == [PHONE]
    assert set(await rig.store.find_rows([row])) == {row}
    left = [event for event in await rig.events() if TEXTS[0].encode() in event.body]
    assert [event.contact for event in left] == [PHONE]
    assert not any(b"new owner" in event.body for event in await rig.events())


async def test_a_broadcast_has_one_recipient_less(rig: Rig) -> None:
    found = await rig.contacts.resolve([Address(PHONE), Address(OTHER)])
    rows = [NewRow(n, OUR_ID, contact, 1, 1000, b"{}") for n, contact in enumerate(found.values())]
    assert await rig.store.create_task(NewTask(TASK, "text", "api", 2, NOW), rows)
    await rig.consume()
    await rig.erase()
    task = await rig.store.find_task(TASK)
    assert task is not None
    assert (task.task.total, task.counts) == (1, {State.QUEUED: 1})
    lease = await rig.store.acquire_lease(f"lane:{OUR_ID}", "me", 60_000)
    assert lease is not None
    await bring(rig.store, lease, {f"{TASK}-1": State.SENT})
    assert await rig.store.finished_tasks([TASK]) == {TASK}


async def test_every_process_forgets_who_was_erased_by_another(mongo_url: str) -> None:
    stores = [MongoStore(mongo_url, answer_s=GUARD_S) for _ in range(2)]
    for one in stores:
        await one.open()
    try:
        worker, other = Rig(stores[0]), Rig(stores[1], "another")
        for rig in (worker, other):
            await rig.start()
        await fill(worker)
        await eventually(lambda: _has(other, PHONE))
        await other.contacts.find([Address(PHONE, USER_ID)])
        await worker.erase()
        await eventually(lambda: _has(other, "contact.erased"))
        assert not any(PHONE.encode() in event.body for event in await other.log.read(0, 1000))
        assert other.contacts.cached(Address(PHONE, USER_ID)) is None
        await other.erasures.look()
        assert other.removed == worker.removed == ["4711"]
        before = await other.events()
        await other.hear(theirs(0, TEXTS[0]))
        assert await other.events() == before
    finally:
        for one in stores:
            await one.close()


async def _has(rig: Rig, mark: str) -> bool | None:
    return any(mark.encode() in event.body for event in await rig.log.read(0, 1000)) or None


async def test_what_nobody_expected_ends_neither_the_process_nor_the_request(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    await fill(rig)
    asked = await rig.erasures.ask(PHONE)
    assert asked is not None
    rig.faulty.fail("search_shelf", ValueError("of nobody's doing"))
    tasks = {asyncio.Task(rig.erasures.run()), asyncio.Task(rig._keep_consuming())}
    await rig.faulty.arrived("search_shelf", 2)
    assert "of nobody's doing" in rig.erasures.fault
    rig.faulty.heal()

    async def done() -> bool | None:
        told = await rig.erasures.find(asked.id)
        return (told is not None and told["state"] == "done") or None

    await eventually(done)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert "the erasing of a contact failed" in caplog.text
    caplog.clear()
