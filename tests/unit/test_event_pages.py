"""What a page of the log holds, and where the next one begins."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tornado.ioloop import IOLoop

from hub.pages import Page, read_page
from hub.replay import Start
from hub.subscription import Filter
from store.log import Log
from tests.support.memory_log import MemoryLogStore, new_event, started_log


async def log_of(*types: str, size: int = 0, keep_bytes: int = 1) -> tuple[MemoryLogStore, Log]:
    """A log with one event of each of these; of which next to nothing is kept in memory."""
    store = MemoryLogStore()
    log = await started_log(store, keep_bytes=keep_bytes)
    await store.append_events([new_event(n, type, size=size) for n, type in enumerate(types, 1)])
    return store, log


def offsets(page: Page) -> list[int]:
    return [event.offset for event in page.events]


@given(
    st.lists(st.sampled_from("ab"), max_size=30),
    st.integers(1, 7),
    st.integers(1, 9),
    st.sampled_from([1, 10**6]),
)
def test_pages_hold_all_that_is_wanted_once_and_come_to_an_end(
    types: list[str], limit: int, most_events: int, keep_bytes: int
) -> None:
    async def read() -> None:
        _, log = await log_of(*types, keep_bytes=keep_bytes)
        found: list[int] = []
        place, turns = 0, 0
        while place < log.head:
            page = await read_page(
                log.read, Start(place, True), Filter.of(["a"]), limit, most_events=most_events
            )
            assert page.place > place and page.recovered and len(page.events) <= limit
            assert all(place < offset <= page.place for offset in offsets(page))
            found += offsets(page)
            place, turns = page.place, turns + 1
        assert found == [n for n, type in enumerate(types, 1) if type == "a"]
        assert turns <= len(types)

    IOLoop(make_current=False).run_sync(read)


async def test_a_page_of_large_events_ends_before_one_that_would_be_too_much() -> None:
    _, log = await log_of(*"abc", size=400_000)
    assert offsets(await read_page(log.read, Start(0, True), Filter(), 100)) == [1, 2]
    _, log = await log_of("a", size=5_000_000)
    assert offsets(await read_page(log.read, Start(0, True), Filter(), 100)) == [1]


async def test_what_was_removed_before_it_was_read_is_told() -> None:
    store, log = await log_of(*"abcd")
    store.remove_through(2)
    page = await read_page(log.read, Start(1, True), Filter(), 100)
    assert (offsets(page), page.recovered) == ([3, 4], False)
    page = await read_page(log.read, Start(2, True), Filter(), 100)
    assert (offsets(page), page.recovered) == ([3, 4], True)


@pytest.mark.parametrize("recovered", [True, False])
async def test_a_page_past_the_end_stays_where_it_is(recovered: bool) -> None:
    _, log = await log_of("a")
    assert await read_page(log.read, Start(9, recovered), Filter(), 100) == Page([], 9, recovered)
