"""The log of every store: appending, reading, following."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from store.base import Store
from store.records import LogBounds, NewEvent
from tests.support.store_values import Listener, new_event

MakeStore = Callable[[], Store]


async def test_appended_events_are_read_back_as_they_were(store: Store) -> None:
    event = NewEvent("key", "message.sent", 1_700_000_000_123, b'{"a":1}', "100", "contact", "task-0")
    (added,) = await store.append_events([event])
    assert (added.key, added.type, added.at, added.body) == (event.key, event.type, event.at, event.body)
    assert (added.phone_number_id, added.contact, added.message_id) == ("100", "contact", "task-0")
    assert await store.events_after(0, 10) == [added]


async def test_appended_events_keep_the_order_given(store: Store) -> None:
    added = await store.append_events([new_event(key) for key in "cab"])
    assert [event.key for event in added] == ["c", "a", "b"]
    assert await store.events_after(0, 10) == added


async def test_appending_nothing_adds_nothing(store: Store) -> None:
    assert await store.append_events([]) == []
    assert await store.log_bounds() == LogBounds(0, 0)


async def test_offsets_grow_and_each_names_the_one_before(store: Store) -> None:
    for keys in ("ab", "c", "def"):
        await store.append_events([new_event(key) for key in keys])
    events = await store.events_after(0, 10)
    assert len(events) == 6
    before = 0
    for event in events:
        assert event.prev == before < event.offset < 2**53
        before = event.offset


async def test_a_key_twice_in_one_call_is_appended_once(store: Store) -> None:
    first, again = new_event("same", body=b'{"n":1}'), new_event("same", body=b'{"n":2}')
    added = await store.append_events([first, new_event("other"), again])
    assert [event.body for event in added] == [first.body, new_event("other").body]
    assert await store.events_after(0, 10) == added


async def test_a_known_key_is_dropped_and_its_neighbours_are_not(store: Store) -> None:
    await store.append_events([new_event("known", body=b'{"n":1}')])
    added = await store.append_events([new_event("a"), new_event("known", body=b'{"n":2}'), new_event("b")])
    assert [event.key for event in added] == ["a", "b"]
    events = await store.events_after(0, 10)
    assert [event.key for event in events] == ["known", "a", "b"]
    assert events[0].body == b'{"n":1}'


async def test_of_calls_with_one_key_under_way_at_once_one_gets_the_event(store: Store) -> None:
    calls = [[new_event("shared"), new_event(f"own-{n}")] for n in range(20)]
    added = await asyncio.gather(*(store.append_events(call) for call in calls))
    keys = [event.key for events in added for event in events]
    assert sorted(keys) == sorted(["shared", *(f"own-{n}" for n in range(20))])
    assert sorted(event.key for event in await store.events_after(0, 100)) == sorted(keys)


async def test_calls_are_appended_in_the_order_in_which_they_were_made(store: Store) -> None:
    await asyncio.gather(*(store.append_events([new_event(f"{n:03}")]) for n in range(50)))
    keys = [event.key for event in await store.events_after(0, 100)]
    assert keys == sorted(keys) and len(keys) == 50


async def test_a_webhook_of_a_thousand_updates_is_one_append(store: Store) -> None:
    added = await store.append_events([new_event(f"{n:04}") for n in range(1000)])
    assert len(added) == 1000
    assert await store.events_after(0, 2000) == added


async def test_keys_are_known_once_their_event_is_in_the_log(store: Store) -> None:
    assert set(await store.known_keys({"a"})) == set()
    await store.append_events([new_event(key) for key in "abc"])
    await store.append_events([new_event("d")])
    assert set(await store.known_keys({"a", "d", "e"})) == {"a", "d"}
    assert set(await store.known_keys([])) == set()


async def test_events_after_pages_through_the_log(store: Store) -> None:
    appended = []
    for n in range(70):
        appended += await store.append_events([new_event(f"{n}-{part}") for part in range(2)])
    paged, after = [], 0
    while page := await store.events_after(after, 9):
        assert len(page) <= 9
        paged += page
        after = page[-1].offset
    assert paged == appended


async def test_events_after_begins_inside_an_append_too(store: Store) -> None:
    added = await store.append_events([new_event(key) for key in "abcd"])
    assert await store.events_after(added[1].offset, 10) == added[2:]


async def test_there_is_nothing_after_the_head_or_past_it(store: Store) -> None:
    assert await store.events_after(0, 10) == []
    (added,) = await store.append_events([new_event("a")])
    assert await store.events_after(added.offset, 10) == []
    assert await store.events_after(added.offset + 1_000_000, 10) == []


async def test_an_empty_log_has_its_bounds_at_zero(store: Store) -> None:
    assert await store.log_bounds() == LogBounds(floor=0, head=0)


async def test_bounds_tell_where_the_log_begins_and_ends(store: Store) -> None:
    first, _, _ = await store.append_events([new_event(key) for key in "abc"])
    (last,) = await store.append_events([new_event("d")])
    assert await store.log_bounds() == LogBounds(floor=first.prev, head=last.offset)


async def test_a_listener_has_seen_the_events_when_their_append_returns(store: Store) -> None:
    listener = Listener(store)
    added = await store.append_events([new_event("a"), new_event("b")])
    assert listener.events == added


async def test_a_listener_sees_concurrent_appends_in_the_order_of_the_log(store: Store) -> None:
    listener = Listener(store)

    async def append(n: int) -> None:
        for part in range(5):
            added = await store.append_events([new_event(f"{n}-{part}"), new_event(f"shared-{part}")])
            assert {event.key for event in added} <= set(listener.keys)

    await asyncio.gather(*(append(n) for n in range(8)))
    assert len(listener.events) == 8 * 5 + 5
    assert listener.events == await store.events_after(0, 1000)


async def test_a_listener_hears_nothing_of_dropped_events(store: Store) -> None:
    await store.append_events([new_event("a")])
    listener = Listener(store)
    await store.append_events([new_event("a")])
    await store.append_events([new_event("a"), new_event("b")])
    assert listener.keys == ["b"]


async def test_every_listener_sees_every_event(store: Store) -> None:
    listeners = [Listener(store), Listener(store)]
    added = await store.append_events([new_event("a")])
    assert [listener.events for listener in listeners] == [added, added]


async def test_a_listener_hears_of_events_from_the_opening_on(store: Store, make_store: MakeStore) -> None:
    await store.append_events([new_event("before")])
    await store.close()
    again = make_store()
    listener = Listener(again)
    await again.open()
    try:
        await again.append_events([new_event("after")])
        assert listener.keys == ["after"]
    finally:
        await again.close()


async def test_keys_and_offsets_go_on_after_a_new_opening(store: Store, make_store: MakeStore) -> None:
    old = await store.append_events([new_event("a"), new_event("b")])
    await store.close()
    again = make_store()
    await again.open()
    try:
        (added,) = await again.append_events([new_event("b"), new_event("c"), new_event("a")])
        assert added.key == "c"
        assert added.prev == old[-1].offset < added.offset
        assert await again.events_after(0, 10) == [*old, added]
    finally:
        await again.close()


async def test_a_reader_amid_a_page_is_not_given_what_was_put_in_another_place(store: Store) -> None:
    added = await store.append_events([new_event(f"{n}") for n in range(6)])
    assert await store.events_after(0, 2) == added[:2]
    erased = msgspec.structs.replace(added[3], body=b'{"erased":true}')
    await store.rewrite_events([erased])
    assert await store.events_after(added[1].offset, 2) == [added[2], erased]
