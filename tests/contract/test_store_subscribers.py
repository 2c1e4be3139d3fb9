"""Named subscribers of every store: whose a name is, how far it has come, and how much is past a place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from store.base import Store
from store.mongo import MongoStore
from store.mongo_log import EVENTS
from store.records import Progress, Subscriber
from tests.support.store_values import new_event

MakeStore = Callable[[], Store]


async def taken(
    store: Store,
    name: str = "crm",
    session: str = "s1",
    now: int = 1000,
    *,
    start: int = 0,
    wanted: bytes | None = None,
) -> Subscriber:
    found = await store.take_subscriber(name, session, "p1", now, start=start, wanted=wanted, most=10)
    assert found is not None
    return found[0]


# -- names ---------------------------------------------------------------------------------------------


async def test_a_new_name_begins_where_it_is_told(store: Store) -> None:
    found = await store.take_subscriber("crm", "s1", "p1", 1000, start=7, wanted=b"{}", most=10)
    assert found == (Subscriber("crm", 7, b"{}", 1000, 1000, "p1", "s1"), True)
    assert await store.find_subscribers(["crm", "other"]) == {"crm": found[0]}


async def test_a_known_name_keeps_its_place_and_is_its_newest_connections(store: Store) -> None:
    await taken(store, start=7, wanted=b"{}")
    found = await store.take_subscriber("crm", "s2", "p2", 2000, start=99, wanted=None, most=1)
    assert found == (Subscriber("crm", 7, b"{}", 1000, 2000, "p2", "s2"), False)


async def test_a_filter_given_anew_takes_the_place_of_the_old(store: Store) -> None:
    await taken(store, wanted=b"[1]")
    assert (await taken(store, session="s2", wanted=b"[2]")).wanted == b"[2]"
    assert (await taken(store, session="s3")).wanted == b"[2]"


async def test_no_more_names_than_may_be(store: Store) -> None:
    for name in ("a", "b"):
        assert await store.take_subscriber(name, "s", "p", 1, start=0, wanted=None, most=2) is not None
    assert await store.take_subscriber("c", "s", "p", 1, start=0, wanted=None, most=2) is None
    assert await store.take_subscriber("a", "t", "p", 1, start=0, wanted=None, most=2) is not None
    assert await store.find_subscribers(["c"]) == {}


async def test_of_connections_under_way_at_once_the_last_has_the_name(store: Store) -> None:
    await asyncio.gather(*(taken(store, session=f"s{n}") for n in range(20)))
    assert (await store.find_subscribers(["crm"]))["crm"].session == "s19"


async def test_names_are_listed_in_their_order_page_by_page(store: Store) -> None:
    for name in ("b", "C", "a", "c-1", "c.2"):
        await taken(store, name)
    assert [each.name for each in await store.list_subscribers(3)] == ["C", "a", "b"]
    assert [each.name for each in await store.list_subscribers(3, "b")] == ["c-1", "c.2"]
    assert await store.list_subscribers(3, "c.2") == []
    assert await store.find_subscribers([]) == {}


async def test_a_removed_name_is_forgotten_with_its_place(store: Store) -> None:
    await taken(store, start=7)
    assert await store.remove_subscriber("crm") is True
    assert await store.remove_subscriber("crm") is False
    assert (await taken(store, session="s2", start=9)).offset == 9


# -- progress ------------------------------------------------------------------------------------------


async def test_progress_goes_forward_only(store: Store) -> None:
    await taken(store, start=5)
    assert await store.save_progress([Progress("crm", "s1", 9)], 2000) == set()
    assert await store.save_progress([Progress("crm", "s1", 7)], 3000) == set()
    assert (await store.find_subscribers(["crm"]))["crm"] == Subscriber("crm", 9, b"", 1000, 3000, "p1", "s1")


async def test_who_leaves_holds_the_name_no_longer_and_keeps_its_place(store: Store) -> None:
    await taken(store)
    await store.save_progress([Progress("crm", "s1", 3, leaves=True)], 2000)
    found = (await store.find_subscribers(["crm"]))["crm"]
    assert (found.offset, found.holder) == (3, "")


async def test_an_older_connection_moves_nothing_and_is_told(store: Store) -> None:
    await taken(store, "crm", "s1")
    await taken(store, "crm", "s2")
    await taken(store, "erp", "s3")
    progress = [Progress("crm", "s1", 3, leaves=True), Progress("erp", "s3", 4), Progress("gone", "s4", 5)]
    assert await store.save_progress(progress, 2000) == {"s1", "s4"}
    found = await store.find_subscribers(["crm", "erp"])
    assert (found["crm"].offset, found["crm"].holder, found["erp"].offset) == (0, "p1", 4)


async def test_progress_of_many_is_saved_in_one_call(store: Store) -> None:
    names = [f"n{n:03}" for n in range(250)]
    for name in names:
        found = await store.take_subscriber(name, name, "p1", 1, start=0, wanted=None, most=1000)
        assert found is not None
    assert await store.save_progress([], 2000) == set()
    progress = [Progress(name, name, n) for n, name in enumerate(names)]
    assert await store.save_progress(progress, 2000) == set()
    assert [each.offset for each in await store.list_subscribers(1000)] == list(range(250))


async def test_names_and_places_survive_a_new_opening(store: Store, make_store: MakeStore) -> None:
    await taken(store, wanted=b"{}")
    await store.save_progress([Progress("crm", "s1", 3)], 2000)
    await store.close()
    again = make_store()
    await again.open()
    try:
        assert (await again.find_subscribers(["crm"]))["crm"].offset == 3
    finally:
        await again.close()


# -- how much is past a place --------------------------------------------------------------------------


async def test_events_past_a_place_are_counted(store: Store) -> None:
    assert await store.count_past([0, 5]) == {0: 0, 5: 0}
    added = []
    for keys in ("abc", "d", "ef"):
        added += await store.append_events([new_event(key) for key in keys])
    expected = {event.offset: 5 - n for n, event in enumerate(added)}
    assert await store.count_past([0, *expected, added[-1].offset + 9999]) == {
        0: 6,
        **expected,
        added[-1].offset + 9999: 0,
    }
    assert await store.count_past([]) == {}


async def test_events_are_counted_on_after_a_new_opening(store: Store, make_store: MakeStore) -> None:
    (first,) = await store.append_events([new_event("a")])
    await store.close()
    again = make_store()
    await again.open()
    try:
        await again.append_events([new_event("b"), new_event("c")])
        assert await again.count_past([0, first.offset]) == {0: 3, first.offset: 2}
    finally:
        await again.close()


async def test_events_that_an_earlier_version_stored_count_by_their_offsets(mongo_url: str) -> None:
    store = MongoStore(mongo_url)
    await store.open()
    try:
        (first,) = await store.append_events([new_event("a")])
        await store._db.call(lambda: store._db[EVENTS].update_one({"_id": 1}, {"$unset": {"total": 1}}))
        store._log._tail = None
        second, third = await store.append_events([new_event("b"), new_event("c")])
        await store._db.call(lambda: store._db[EVENTS].delete_one({"_id": 1}))
        past = await store.count_past([0, first.offset, second.offset, third.offset])
        assert past == {0: 2, first.offset: 2, second.offset: 1, third.offset: 0}
    finally:
        await store.close()


async def test_a_read_of_large_events_is_bounded_and_misses_none(store: Store) -> None:
    added = []
    for n in range(7):
        added += await store.append_events([new_event(f"{n}", body=b'{"x":"%s"}' % (b"x" * 2_500_000))])
    page = await store.events_after(0, 7)
    assert 1 < len(page) < 7
    seen = []
    while page:
        seen += page
        page = await store.events_after(seen[-1].offset, 7)
    assert [event.offset for event in seen] == [event.offset for event in added]


@pytest.mark.parametrize("limit", [1, 3])
async def test_an_event_that_is_larger_than_a_read_is_read_alone(store: Store, limit: int) -> None:
    large = new_event("large", body=b'{"x":"%s"}' % (b"x" * 7_000_000))
    added = await store.append_events([new_event("a"), large, new_event("b")])
    (first,) = await store.events_after(0, 1)
    assert first == added[0]
    assert (await store.events_after(first.offset, limit))[0].key == "large"
