"""Conversations on every store: from webhooks and the lane's outcomes to what callers read."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from store.base import Store
from store.errors import LeaseLost, StoreUnavailable
from store.records import Cursor
from tests.support.faulty_store import FaultyStore
from tests.support.store_values import lane_lease
from tests.support.tracked import ROW, Tracked, status
from tests.support.webhooks import OUR_ID, PHONE, USER_ID, body, entry, message_value, text_message
from whatsapp.contacts import Contacts
from whatsapp.conversations import CONVERSATIONS, ConversationKeeper, Conversations
from whatsapp.intake import Intake
from whatsapp.message_life import MessageLives

Json = dict[str, Any]
PAYLOAD = b'{"to":"+16505551234","type":"text","text":{"body":"ours"},"context":{"message_id":"wamid.1"}}'


class Rig(Tracked):
    """A row to :data:`PHONE` under way, and what customers write. Threads are kept when the test says so."""

    def __init__(self, store: Store) -> None:
        super().__init__(store, payload=PAYLOAD)
        self.faulty = FaultyStore(store)
        self.keeper = ConversationKeeper(self.faulty.as_store())
        self.conversations = Conversations(store)
        self.intake = Intake(self.log, Contacts(store), store, now_ms=lambda: 1_700_000_000_000)

    async def begin(self) -> None:
        await self.start()
        self.keeping = await lane_lease(self.store, name=f"consumer:{CONVERSATIONS}")

    async def write(self, *messages: Json, **parts: Any) -> None:
        await self.intake.take(body(entry(message_value(messages=list(messages), **parts))))

    async def keep(self, batch: int = 1000, *, after: int | None = None) -> None:
        """Hand over all that is new, so many at once."""
        seen = await self.store.load_cursor(CONVERSATIONS) if after is None else after
        while events := await self.store.events_after(seen, batch):
            seen = events[-1].offset
            await self.keeper.handle(events, Cursor(CONVERSATIONS, seen), self.keeping)

    async def thread(self, contact: str = PHONE) -> list[Json]:
        said = await self.conversations.messages(contact, 100, before=None, after=None, phone_number_id="")
        return await self.conversations.tell(said)

    async def texts(self, contact: str = PHONE) -> list[str | None]:
        return [one["text"] for one in await self.thread(contact)]

    async def listed(self) -> list[Json]:
        return await self.conversations.page([OUR_ID], 10, None, unread=False)


async def a_rig(store: Store) -> Rig:
    rig = Rig(store)
    await rig.begin()
    return rig


async def said_and_answered(rig: Rig) -> None:
    await rig.write(text_message("wamid.1", "hola"))
    await rig.answer("wamid.ours")
    await rig.write(text_message("wamid.2", "gracias", context={"id": "wamid.ours"}))
    await rig.hear(status("delivered", "wamid.ours"))
    await rig.track()


async def test_both_sides_stand_in_one_thread(store: Store) -> None:
    rig = await a_rig(store)
    await said_and_answered(rig)
    await rig.keep()
    first, ours, last = await rig.thread()
    assert [one["text"] for one in (first, ours, last)] == ["hola", "ours", "gracias"]
    assert (ours["delivery"]["state"], ours["wamid"], ours["reply_to"]) == (
        "delivered",
        "wamid.ours",
        "wamid.1",
    )
    (conversation,) = await rig.listed()
    assert (conversation["contact"], conversation["unread"], conversation["last"]) == (PHONE, 2, last)


@pytest.mark.parametrize("batch", [1, 2, 3, 1000])
async def test_threads_are_the_same_however_the_log_is_cut_and_however_often_it_is_read(
    store: Store, batch: int
) -> None:
    rig = await a_rig(store)
    await said_and_answered(rig)
    edit = {"original_message_id": "wamid.1", "message": {"type": "text", "text": {"body": "hello"}}}
    await rig.write(text_message("wamid.3", None, type="edit", edit=edit))
    await rig.keep(batch)
    once = (await rig.thread(), await rig.listed())
    assert [one["text"] for one in once[0]] == ["hello", "ours", "gracias"]
    await rig.keep(1000 // batch, after=0)
    assert (await rig.thread(), await rig.listed()) == once


async def test_a_batch_that_broke_off_is_made_good(store: Store) -> None:
    rig = await a_rig(store)
    await said_and_answered(rig)
    rig.faulty.fail("note_threads")
    with pytest.raises(StoreUnavailable):
        await rig.keep()
    assert await rig.thread() == []
    rig.faulty.heal()
    await rig.keep()
    assert len(await rig.thread()) == 3


async def test_who_has_lost_the_lease_does_not_pass_what_another_keeps(store: Store) -> None:
    rig = await a_rig(store)
    await rig.write(text_message("wamid.1"))
    await store.release_lease(rig.keeping)
    assert await store.acquire_lease(rig.keeping.name, "another", 60_000) is not None
    with pytest.raises(LeaseLost):
        await rig.keep()
    assert await store.load_cursor(CONVERSATIONS) == 0


async def test_an_edit_and_a_revoke_find_their_message_in_an_earlier_batch(store: Store) -> None:
    rig = await a_rig(store)
    await rig.write(text_message("wamid.1", "one"), text_message("wamid.2", "two"))
    await rig.keep()
    edit = {"original_message_id": "wamid.1", "message": {"type": "text", "text": {"body": "uno"}}}
    revoke = {"original_message_id": "wamid.2"}
    await rig.write(text_message("wamid.3", None, type="edit", edit=edit))
    await rig.write(text_message("wamid.4", None, type="revoke", revoke=revoke))
    await rig.keep()
    first, second = await rig.thread()
    assert (first["text"], first["edited_at"] is not None) == ("uno", True)
    assert (second["text"], second["message"], second["revoked_at"] is not None) == (None, None, True)


async def test_nobody_changes_what_another_wrote(store: Store) -> None:
    rig = await a_rig(store)
    await rig.write(text_message("wamid.1", "mine"))
    revoke = {"original_message_id": "wamid.1"}
    other = {"from": "16505557777", "type": "revoke", "revoke": revoke}
    await rig.write(text_message("wamid.2", None, **other))
    await rig.keep()
    assert await rig.texts() == ["mine"]
    assert [one["type"] for one in await rig.thread("16505557777")] == ["revoke"]


async def test_a_customer_without_a_phone_has_a_thread(store: Store) -> None:
    rig = await a_rig(store)
    message = text_message("wamid.1", "hola", **{"from": None, "from_user_id": USER_ID})
    await rig.write(message)
    await rig.keep()
    assert await rig.texts(USER_ID) == ["hola"]


async def test_what_failed_and_was_sent_after_all_stands_once(store: Store) -> None:
    rig = await a_rig(store)
    await rig.answer("wamid.ours")
    await rig.hear(status("failed", "wamid.ours", errors=[{"code": 131026}]))
    await rig.track()
    await rig.track()
    await rig.keep()
    (ours,) = await rig.thread()
    assert (ours["delivery"]["state"], ours["delivery"]["error"]["code"]) == ("failed", 131026)


async def test_a_thread_of_many_is_read_page_by_page(store: Store) -> None:
    rig = await a_rig(store)
    for n in range(30):
        await rig.write(*(text_message(f"wamid.{n}.{m}", f"{n}.{m}") for m in range(10)))
    await rig.keep()
    seen: list[str | None] = []
    before = None
    while page := await rig.conversations.messages(PHONE, 70, before=before, after=None, phone_number_id=""):
        before = page[0].offset
        seen = [one["text"] for one in await rig.conversations.tell(page)] + seen
    assert seen == [f"{n}.{m}" for n in range(30) for m in range(10)]


async def test_two_that_keep_the_same_at_once_do_no_harm(store: Store) -> None:
    rig = await a_rig(store)
    await said_and_answered(rig)
    await asyncio.gather(rig.keep(2, after=0), rig.keep(3, after=0))
    assert await rig.texts() == ["hola", "ours", "gracias"]
    assert [one["unread"] for one in await rig.listed()] == [2]


async def test_a_messages_life_is_found_by_either_id(store: Store) -> None:
    rig = await a_rig(store)
    await said_and_answered(rig)
    await rig.keep()
    lives = MessageLives(store, rig.conversations)
    ours = await lives.of_wamid("wamid.ours")
    assert ours is not None and ours == await lives.of_row(ROW)
    assert [one["status"] for one in ours["statuses"]] == ["delivered"]
    assert [one["text"] for one in ours["replies"]] == ["gracias"]
    assert [one["event"] for one in ours["events"]] == ["message.sent", "message.delivered"]
    theirs = await lives.of_wamid("wamid.1")
    assert theirs is not None
    assert (theirs["direction"], theirs["message"]["text"]) == ("in", "hola")
    assert [one["text"] for one in theirs["replies"]] == ["ours"]
    assert await lives.of_wamid("wamid") is None
    assert await lives.of_row("none-1") is None
