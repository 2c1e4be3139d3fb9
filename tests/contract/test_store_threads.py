"""Conversations, the addresses of a contact, and events by their keys, on every store."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from store.base import Store
from store.errors import LeaseLost
from store.records import Alias, Cursor, Lease
from store.threads import Amended, Moved, Said, Thread, ThreadNews
from tests.support.store_values import lane_lease, new_event

NUMBER, OTHER = "100", "200"


def said(offset: int, kind: str = "in", contact: str = "ann", number: str = NUMBER, **more: object) -> Said:
    return Said(offset, contact, number, offset * 10, kind, **more)  # type: ignore[arg-type]


def marked(offset: int, contact: str = "ann", number: str = NUMBER) -> Thread:
    return Thread(contact, number, read_offset=offset)


async def a_lease(store: Store) -> Lease:
    return await lane_lease(store, name="consumer:conversations")


async def note(
    store: Store,
    *messages: Said,
    amended: Iterable[Amended] = (),
    more: Iterable[Thread] = (),
    moved: Iterable[Moved] = (),
) -> None:
    news = ThreadNews(messages, tuple(amended), tuple(more), tuple(moved))
    await store.note_threads(news, Cursor("conversations", 1), await a_lease(store))


async def offsets(store: Store, contact: str = "ann", limit: int = 10, **bounds: object) -> list[int]:
    return [one.offset for one in await store.said_of(contact, limit, **bounds)]  # type: ignore[arg-type]


async def thread(store: Store, contact: str = "ann", number: str = NUMBER) -> Thread:
    (found,) = [one for one in await store.threads_of(contact) if one.phone_number_id == number]
    return found


# -- what was said -----------------------------------------------------------------------------------------


async def test_a_thread_is_read_in_the_order_of_the_log_in_both_directions(store: Store) -> None:
    await note(store, *(said(n, "in" if n % 2 else "out") for n in range(1, 10)), said(20, contact="bob"))
    assert await offsets(store) == list(range(1, 10))
    assert await offsets(store, limit=3) == [7, 8, 9]
    assert await offsets(store, limit=3, before=7) == [4, 5, 6]
    assert await offsets(store, limit=3, after=3) == [4, 5, 6]
    assert await offsets(store, limit=3, after=0) == [1, 2, 3]
    assert await offsets(store, limit=3, after=9) == await offsets(store, limit=3, before=1) == []
    assert await offsets(store, after=2, before=5) == [3, 4]
    assert await offsets(store, contact="eve") == []


async def test_a_message_comes_back_as_it_was_kept(store: Store) -> None:
    one = said(5, "in", wamid="wamid.A", body=b'{"text":"x"}', name="Ann")
    two = said(6, "out", message_id="task-0")
    await note(store, one, two)
    assert await store.said_of("ann", 10) == [
        Said(5, "ann", NUMBER, 50, "in", "", "wamid.A", b'{"text":"x"}'),
        Said(6, "ann", NUMBER, 60, "out", "task-0"),
    ]
    assert await store.find_said([6, 7]) == {6: Said(6, "ann", NUMBER, 60, "out", "task-0")}
    assert await store.find_said([]) == {}


async def test_one_number_may_be_read_alone(store: Store) -> None:
    await note(store, said(1), said(2, number=OTHER), said(3))
    assert await offsets(store, phone_number_id=NUMBER) == [1, 3]
    assert await offsets(store, phone_number_id=OTHER, limit=1) == [2]
    assert {one.phone_number_id for one in await store.threads_of("ann")} == {NUMBER, OTHER}


async def test_what_is_noted_again_has_its_effect_once(store: Store) -> None:
    first, again = said(1, wamid="a", body=b"1"), said(1, wamid="b", body=b"2")
    await note(store, first, said(2), amended=[Amended(1, b"{}")], more=[marked(1)])
    before = (await store.said_of("ann", 10), await store.threads_of("ann"))
    await note(store, again, more=[marked(1)])
    await note(store, first, said(2), more=[marked(0)])
    assert (await store.said_of("ann", 10), await store.threads_of("ann")) == before


async def test_an_amendment_stays_with_its_message(store: Store) -> None:
    await note(store, said(1), said(2), amended=[Amended(2, b'{"n":1}'), Amended(9, b"{}")])
    await note(store, amended=[Amended(1, b'{"n":2}'), Amended(2, b'{"n":3}')])
    assert [one.amended for one in await store.said_of("ann", 10)] == [b'{"n":2}', b'{"n":3}']


async def test_the_cursor_is_saved_under_the_lease_alone(store: Store) -> None:
    lease = await a_lease(store)
    await store.note_threads(ThreadNews((said(1),)), Cursor("conversations", 7), lease)
    assert await store.load_cursor("conversations") == 7
    await store.release_lease(lease)
    assert await store.acquire_lease(lease.name, "another", 60_000) is not None
    with pytest.raises(LeaseLost):
        await store.note_threads(ThreadNews(), Cursor("conversations", 9), lease)
    assert await store.load_cursor("conversations") == 7


# -- threads -----------------------------------------------------------------------------------------------


async def test_a_thread_tells_who_said_something_last_and_first(store: Store) -> None:
    await note(store, said(3, "out"), said(4, name="Ann"), said(6, "standby"), said(7, "end"))
    assert await thread(store) == Thread("ann", NUMBER, 7, 70, 4, 40, 40, 3, 0, "Ann")
    await note(store, said(8, "echo"), said(9))
    assert await thread(store) == Thread("ann", NUMBER, 9, 90, 9, 90, 40, 8, 0, "Ann")


async def test_of_a_thread_every_field_only_grows(store: Store) -> None:
    await note(store, said(9, name="Ann"), more=[marked(9), Thread("ann", NUMBER, preferences=b"{}")])
    await note(store, said(4), said(5, "out"), more=[marked(2)])
    assert await thread(store) == Thread("ann", NUMBER, 9, 90, 9, 90, 40, 5, 9, "Ann", b"{}")
    await note(store, said(10, name="Anna"))
    assert (await thread(store)).name == "Anna"


async def test_a_thread_is_unread_until_it_is_marked_up_to_what_was_heard_last(store: Store) -> None:
    await note(store, said(1), said(2), said(3, "out"), said(4, contact="bob", number=OTHER))
    threads = [await thread(store), await thread(store, "bob", OTHER)]
    assert await store.count_unread(threads, 10) == [2, 1]
    assert await store.count_unread(threads, 1) == [1, 1]
    await note(store, more=[marked(1)])
    assert await store.count_unread([await thread(store)], 10) == [1]
    assert await store.list_threads([NUMBER], 10, unread=True) == [await thread(store)]
    await note(store, more=[marked(2)])
    assert not (await thread(store)).unread
    assert await store.count_unread([await thread(store)], 10) == [0]
    assert await store.list_threads([NUMBER], 10, unread=True) == []
    await note(store, said(5))
    assert (await thread(store)).unread
    assert await store.list_threads([NUMBER], 10, unread=True) == [await thread(store)]


async def test_threads_are_listed_from_the_last_word_down(store: Store) -> None:
    await note(
        store,
        *(said(n, contact=f"c{n}", number=NUMBER if n % 3 else OTHER) for n in range(1, 10)),
        said(10, "out", contact="c1"),
        more=[marked(5, "c5"), Thread("zoe", NUMBER, preferences=b"{}")],
    )

    async def listed(numbers: list[str], limit: int = 20, **more: object) -> list[str]:
        return [one.contact for one in await store.list_threads(numbers, limit, **more)]  # type: ignore[arg-type]

    assert await listed([NUMBER, OTHER]) == ["c1", "c9", "c8", "c7", "c6", "c5", "c4", "c3", "c2"]
    assert await listed([NUMBER, OTHER], 3) == ["c1", "c9", "c8"]
    assert await listed([NUMBER, OTHER], 3, before=8) == ["c7", "c6", "c5"]
    assert await listed([OTHER]) == ["c9", "c6", "c3"]
    assert await listed([NUMBER], 2, before=7, unread=True) == ["c4", "c2"]
    assert await listed([]) == await listed(["300"]) == []


async def test_two_contacts_who_are_one_person_have_one_thread(store: Store) -> None:
    await note(
        store, said(1, contact="5", name="Ann"), said(2, "out", contact="US.1"), said(3, contact="US.1")
    )
    await note(store, said(4, contact="5", number=OTHER), more=[marked(1, "5"), marked(2, "US.1")])
    await note(store, said(5, contact="US.1"), moved=[Moved("5", "US.1")])
    for key in ("5", "US.1"):
        assert await offsets(store, key) == [1, 2, 3, 4, 5]
        threads = {one.phone_number_id: one for one in await store.threads_of(key)}
        assert threads[NUMBER] == Thread("US.1", NUMBER, 5, 50, 5, 50, 10, 2, 2, "Ann")
        assert threads[OTHER].heard_offset == 4
    # What was under way for the key that is gone, and a repetition, go the same way.
    await note(store, said(6, "out", contact="5"), moved=[Moved("5", "US.1")])
    assert await offsets(store, "US.1") == [1, 2, 3, 4, 5, 6]
    assert len(await store.list_threads([NUMBER, OTHER], 10)) == 2
    await note(store, said(7, contact="7"), moved=[Moved("US.1", "7")])
    await note(store, said(8, "out", contact="5"))
    assert await offsets(store, "5") == await offsets(store, "7") == [1, 2, 3, 4, 5, 6, 7, 8]


async def test_many_are_noted_at_once(store: Store) -> None:
    await note(store, *(said(n, contact=f"c{n % 170}") for n in range(1, 500)))
    assert await offsets(store, "c7") == [7, 177, 347]
    assert len(await store.list_threads([NUMBER], 500)) == 170


# -- the addresses of a contact ----------------------------------------------------------------------------


async def test_all_addresses_that_lead_to_a_contact_are_found(store: Store) -> None:
    await store.put_aliases([Alias("5", "5", "US.1"), Alias("US.1", "5", "5"), Alias("6", "6")])
    assert await store.aliases_of("5") == [Alias("5", "5", "US.1"), Alias("US.1", "5", "5")]
    # Their phone changes, and passes to somebody else.
    await store.put_aliases([Alias("7", "5", "US.1"), Alias("US.1", "5", "7"), Alias("5", "5/5")])
    assert await store.aliases_of("5") == [Alias("7", "5", "US.1"), Alias("US.1", "5", "7")]
    assert await store.aliases_of("5/5") == [Alias("5", "5/5")]
    assert await store.aliases_of("8") == []


# -- events by their keys ----------------------------------------------------------------------------------


async def test_events_are_found_by_how_their_keys_begin(store: Store) -> None:
    keys = ["row:a-1:sent", "st:w:read:9", "row:a-10:sent", "row:a-1:1:failed", "in:w", "in:ww", "row:a-1"]
    for n, key in enumerate(keys):
        # Some of them together, as they come.
        await store.append_events([new_event(key), new_event(f"x{n}")])
    everything = {event.key: event for event in await store.events_after(0, 100)}
    found = await store.find_events(["row:a-1:", "st:w:", "in:w"], 10)
    assert [event.key for event in found] == [
        "row:a-1:sent",
        "st:w:read:9",
        "row:a-1:1:failed",
        "in:w",
        "in:ww",
    ]
    assert found == [everything[event.key] for event in found]
    assert len(await store.find_events(["row:a-1:", "x"], 3)) == 3
    assert await store.find_events(["nothing"], 10) == await store.find_events([], 10) == []


async def test_events_are_found_by_their_keys(store: Store) -> None:
    keys = [f"in:{n}" for n in range(250)]
    for start in range(0, 250, 100):
        await store.append_events([new_event(key) for key in keys[start : start + 100]])
    everything = await store.events_after(0, 1000)
    assert await store.events_of([*reversed(keys), "in:", "in", "in:1", "in:1000"]) == everything
    assert await store.events_of(["in:7", "in:7"]) == [everything[7]]
    assert await store.events_of([]) == []
