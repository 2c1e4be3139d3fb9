"""What lanes remember of who has opted out, over every store and between processes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from store.base import Store
from store.log import Log
from store.records import Alias, Cursor, Event, Row, Suppression
from tests.support.faulty_store import FaultyStore
from tests.support.rows import make_row
from tests.support.waiting import eventually
from whatsapp.contacts import Contacts
from whatsapp.opt_out import OptOutWords
from whatsapp.suppressions import Suppressions

MakeStore = Callable[[], Store]
T = 1_700_000_000_000


class Process:
    """One of several on a store."""

    def __init__(self, store: Store) -> None:
        self.now = T
        self.store = FaultyStore(store)
        self.log = Log(self.store.as_store())
        contacts = Contacts(self.store.as_store())
        self.suppressions = Suppressions(
            self.store.as_store(), contacts, OptOutWords((), ()), now_ms=lambda: self.now
        )

    async def start(self) -> None:
        await self.log.start()
        self.log.subscribe(self.suppressions.notice)

    async def says(self, contact: str, at: int = T) -> None:
        await self.suppressions.put([Suppression(contact, at, 0, "opted_out", "api")])

    async def returns(self, contact: str, at: int = T) -> None:
        await self.suppressions.put([Suppression(contact, 0, at, "opted_out", "api")])

    async def refused(self, *rows: Row) -> set[int]:
        ids = await self.suppressions.refused(rows)
        return {place for place, row in enumerate(rows) if row.id in ids}

    @property
    def asked(self) -> int:
        return self.store.calls["find_suppressions"]


def row(contact: str, heeds: bool = True, n: int = 0) -> Row:
    return msgspec.structs.replace(make_row(n, contact=contact), heeds_opt_out=heeds)


async def test_only_rows_that_heed_it_are_refused_by_one_read_for_all(store: Store) -> None:
    process = Process(store)
    await process.start()
    await process.says("ann")
    rows = [row("ann", n=0), row("bob", n=1), row("ann", heeds=False, n=2)]
    assert await process.refused(*rows) == {0}
    assert [process.suppressions.remembers(one) for one in rows] == [True, False, False]
    for _ in range(5):
        assert await process.refused(*rows) == {0}
    assert await process.refused(rows[2]) == set()
    assert process.asked <= 1


async def test_what_another_process_is_told_is_known_here_without_a_read(
    make_store: MakeStore, store: Store
) -> None:
    one = Process(store)
    other = one if store.atomic else Process(await _opened(make_store))
    for process in {id(one): one, id(other): other}.values():
        await process.start()
    assert await other.refused(row("ann")) == set()
    await one.says("ann")
    await eventually(_known(other, True))
    before = other.asked
    assert await other.refused(row("ann")) == {0}
    await one.returns("ann", T + 5000)
    await eventually(_known(other, False))
    assert await other.refused(row("ann")) == set()
    assert other.asked == before
    if other is not one:
        await other.store.as_store().close()


async def test_a_row_under_a_key_that_leads_to_somebody_else_by_now_heeds_them_too(store: Store) -> None:
    process = Process(store)
    await process.start()
    await store.put_aliases([Alias("5215550001111", "MX.1", "MX.1"), Alias("MX.1", "MX.1")])
    former = row("5215550001111")
    assert await process.refused(former) == set()
    await process.says("MX.1")
    assert process.suppressions.remembers(former)
    assert await process.refused(former) == {0}
    await process.returns("MX.1", T + 5000)
    assert await process.refused(former) == set()
    fresh = Process(store)
    await fresh.start()
    await fresh.says("MX.1", T + 9000)
    assert await fresh.refused(former) == {0}


async def test_what_is_remembered_is_asked_anew_after_a_minute(store: Store) -> None:
    process = Process(store)
    await process.start()
    assert await process.refused(row("ann")) == set()
    await store.put_suppressions([Suppression("ann", T)])  # its process died before it could tell
    process.now += 60_000
    assert await process.refused(row("ann")) == set()
    process.now += 1
    assert await process.refused(row("ann")) == {0}


async def test_what_a_batch_says_is_kept_at_once_and_all_of_it_is_told(store: Store) -> None:
    process = Process(store)
    await process.start()
    words = OptOutWords(["stop"], ["start"])
    kept = process.store.as_store()
    suppressions = Suppressions(kept, Contacts(kept), words, now_ms=lambda: T)
    said = [("ann", "stop"), ("bob", "stop"), ("ann", "start"), ("eve", "stop"), ("ann", "stop")]
    batch = [
        Event(
            n,
            n - 1,
            f"in:{n}",
            "message.received",
            T + n * 1000,
            json.dumps({"data": {"message": {}, "text": text}}).encode(),
            contact=contact,
        )
        for n, (contact, text) in enumerate(said, 1)
    ]
    lease = await store.acquire_lease("consumer:suppressions", "me", 60_000)
    assert lease is not None
    process.store.calls["put_suppressions"] = 0
    await suppressions.handle(batch, Cursor("suppressions", 5), lease)
    assert process.store.calls["put_suppressions"] == 3
    told = [(event.contact, event.type) for event in await store.events_after(0, 10)]
    assert sorted(told) == sorted(
        [(who, "contact.suppressed") for who in ("ann", "ann", "bob", "eve")] + [("ann", "contact.restored")]
    )
    assert (await store.find_suppressions(["ann", "bob", "eve"])).keys() == {"ann", "bob", "eve"}


async def test_a_long_list_that_is_put_in_does_not_fill_the_memory(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("whatsapp.suppressions._MOST", 10)
    process = Process(store)
    await process.start()
    for n in range(100):
        await process.says(f"one-{n}")
    assert len(process.suppressions._known) <= 11
    assert await process.refused(row("one-0"), row("one-99", n=1), row("bob", n=2)) == {0, 1}


async def test_a_word_that_comes_during_a_read_is_not_undone_by_it(store: Store) -> None:
    process = Process(store)
    await process.start()
    process.store.hold("find_suppressions")
    asking = asyncio.Task(process.refused(row("ann")))
    await process.store.arrived("find_suppressions")
    await process.says("ann")
    process.store.heal()
    await asking
    assert process.suppressions.remembers(row("ann"))


async def _opened(make_store: MakeStore) -> Store:
    store = make_store()
    await store.open()
    return store


def _known(process: Process, wanted: bool) -> Any:
    async def ask() -> bool | None:
        return process.suppressions.remembers(row("ann")) is wanted or None

    return ask
