"""Contacts of two processes on one MongoDB: what one learns, the other knows once the log tells of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tornado.ioloop import IOLoop

from store.mongo import MongoStore
from tests.support.store_values import Listener
from tests.support.waiting import GUARD_S
from whatsapp.contacts import Contacts
from whatsapp.identity import Address

P, Q, U, V = "15550000001", "15550000002", "US.111", "US.222"

Process = tuple[MongoStore, Contacts]


@pytest.fixture
def processes(io_loop: IOLoop, mongo_url: str) -> Iterator[tuple[Process, Process]]:
    stores = MongoStore(mongo_url, answer_s=GUARD_S), MongoStore(mongo_url, answer_s=GUARD_S)
    made = []
    for store in stores:
        io_loop.run_sync(store.open)
        contacts = Contacts(store)
        store.on_events(contacts.notice)
        made.append((store, contacts))
    yield made[0], made[1]
    for store in stores:
        io_loop.run_sync(store.close)


async def test_a_merge_in_one_process_is_one_in_the_other(processes: tuple[Process, Process]) -> None:
    (here, ours), (_, theirs) = processes
    listener = Listener(here)
    asked = [Address(P), Address("", U)]
    assert await ours.resolve(asked) == {asked[0]: P, asked[1]: U}
    assert await theirs.resolve([Address(P, U)], {Address(P, U): 1}) == {Address(P, U): U}
    await listener.wait_for(1)
    assert [event.type for event in listener.events] == ["contact.merged"]
    assert await ours.resolve(asked) == dict.fromkeys(asked, U)


async def test_two_processes_that_meet_a_person_at_once_agree_in_the_end(
    processes: tuple[Process, Process],
) -> None:
    (_, ours), (_, theirs) = processes
    # Each by what it was told; neither has heard of the other's.
    await ours.resolve([Address(P)])
    await theirs.resolve([Address("", U)])
    both = Address(P, U)
    keys = {(await contacts.resolve([both]))[both] for contacts in (ours, theirs, ours)}
    assert keys == {U}
