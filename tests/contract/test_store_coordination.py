"""What processes agree upon, on every store: cursors, leases, claims; and the addresses of contacts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from store.base import Store
from store.errors import LeaseLost
from store.records import Alias, Cursor, Lease
from tests.support.store_values import new_event
from tests.support.waiting import eventually

MakeStore = Callable[[], Store]
LONG_MS = 60_000
SHORT_MS = 30


async def acquired(store: Store, name: str, owner: str, ttl_ms: int = LONG_MS) -> Lease:
    lease = await store.acquire_lease(name, owner, ttl_ms)
    assert lease is not None
    return lease


# -- cursors -------------------------------------------------------------------------------------------


async def test_a_cursor_that_was_never_saved_is_zero(store: Store) -> None:
    assert await store.load_cursor("tracker") == 0


async def test_a_cursor_is_loaded_as_it_was_saved_last(store: Store) -> None:
    await store.save_cursor(Cursor("tracker", 5))
    await store.save_cursor(Cursor("other", 2**52))
    await store.save_cursor(Cursor("tracker", 7))
    assert await store.load_cursor("tracker") == 7
    assert await store.load_cursor("other") == 2**52


async def test_a_cursor_saved_by_calls_under_way_at_once_is_that_of_the_last_call(store: Store) -> None:
    await asyncio.gather(*(store.save_cursor(Cursor("tracker", n)) for n in range(1, 30)))
    assert await store.load_cursor("tracker") == 29


async def test_the_newest_term_saves_a_cursor(store: Store) -> None:
    lease = await acquired(store, "consumer:tracker", "a")
    await store.save_cursor(Cursor("tracker", 5), lease)
    await store.save_cursor(Cursor("tracker", 6), lease)
    assert await store.load_cursor("tracker") == 6


async def test_a_lease_given_back_but_not_taken_still_saves_a_cursor(store: Store) -> None:
    lease = await acquired(store, "consumer:tracker", "a")
    await store.release_lease(lease)
    await store.save_cursor(Cursor("tracker", 5), lease)
    assert await store.load_cursor("tracker") == 5


async def test_a_lease_in_other_hands_saves_no_cursor(store: Store) -> None:
    former = await acquired(store, "consumer:tracker", "a")
    await store.save_cursor(Cursor("tracker", 5), former)
    await store.release_lease(former)
    # Before the new owner has saved anything, and after.
    latter = await acquired(store, "consumer:tracker", "b")
    with pytest.raises(LeaseLost):
        await store.save_cursor(Cursor("tracker", 6), former)
    await store.save_cursor(Cursor("tracker", 7), latter)
    with pytest.raises(LeaseLost):
        await store.save_cursor(Cursor("tracker", 8), former)
    assert await store.load_cursor("tracker") == 7


async def test_a_lease_that_was_never_given_saves_no_cursor(store: Store) -> None:
    with pytest.raises(LeaseLost):
        await store.save_cursor(Cursor("tracker", 5), Lease("consumer:tracker", "a", 1))
    assert await store.load_cursor("tracker") == 0


# -- leases --------------------------------------------------------------------------------------------


async def test_a_free_lease_goes_to_who_asks(store: Store) -> None:
    lease = await acquired(store, "lane:1", "a")
    assert (lease.name, lease.owner) == ("lane:1", "a")
    assert lease.term >= 1


async def test_a_lease_has_one_owner_at_a_time(store: Store) -> None:
    await acquired(store, "lane:1", "a")
    assert await store.acquire_lease("lane:1", "b", LONG_MS) is None
    assert await store.acquire_lease("lane:1", "c", LONG_MS) is None


async def test_of_many_that_ask_at_once_one_gets_the_lease(store: Store) -> None:
    leases = await asyncio.gather(*(store.acquire_lease("lane:1", f"{n}", LONG_MS) for n in range(12)))
    assert len([lease for lease in leases if lease is not None]) == 1


async def test_leases_of_other_names_are_others(store: Store) -> None:
    await acquired(store, "lane:1", "a")
    assert (await acquired(store, "lane:2", "b")).owner == "b"


async def test_extending_keeps_the_term(store: Store) -> None:
    lease = await acquired(store, "lane:1", "a")
    assert await acquired(store, "lane:1", "a") == lease
    assert await acquired(store, "lane:1", "a") == lease


async def test_an_expired_lease_goes_to_another_under_the_next_term(store: Store) -> None:
    former = await acquired(store, "lane:1", "a", SHORT_MS)
    latter = await eventually(lambda: store.acquire_lease("lane:1", "b", LONG_MS))
    assert latter == Lease("lane:1", "b", former.term + 1)
    assert await store.acquire_lease("lane:1", "a", LONG_MS) is None


async def test_an_extended_lease_outlives_its_first_time(store: Store) -> None:
    await acquired(store, "lane:1", "a", SHORT_MS)
    await acquired(store, "lane:1", "a", LONG_MS)
    # This one is taken later for the same short time, so when it has run out, the first time has too.
    await acquired(store, "lane:2", "a", SHORT_MS)
    await eventually(lambda: store.acquire_lease("lane:2", "b", LONG_MS))
    assert await store.acquire_lease("lane:1", "b", LONG_MS) is None


async def test_a_lease_given_back_is_free_at_once(store: Store) -> None:
    former = await acquired(store, "lane:1", "a")
    await store.release_lease(former)
    assert await acquired(store, "lane:1", "b") == Lease("lane:1", "b", former.term + 1)


async def test_a_former_owner_cannot_give_a_lease_back(store: Store) -> None:
    former = await acquired(store, "lane:1", "a")
    await store.release_lease(former)
    await acquired(store, "lane:1", "b")
    await store.release_lease(former)
    assert await store.acquire_lease("lane:1", "c", LONG_MS) is None


async def test_a_lease_is_not_given_back_under_an_older_term(store: Store) -> None:
    first = await acquired(store, "lane:1", "a")
    await store.release_lease(first)
    between = await acquired(store, "lane:1", "b")
    await store.release_lease(between)
    again = await acquired(store, "lane:1", "a")
    assert again.term > first.term
    await store.release_lease(first)
    assert await store.acquire_lease("lane:1", "c", LONG_MS) is None


async def test_giving_back_and_taking_under_way_at_once_happen_in_that_order(store: Store) -> None:
    lease = await acquired(store, "lane:1", "a")
    _, other = await asyncio.gather(store.release_lease(lease), store.acquire_lease("lane:1", "b", LONG_MS))
    assert other == Lease("lane:1", "b", lease.term + 1)


async def test_terms_go_on_growing_after_a_new_opening(store: Store, make_store: MakeStore) -> None:
    former = await acquired(store, "lane:1", "a")
    await store.release_lease(former)
    await store.close()
    again = make_store()
    await again.open()
    try:
        assert (await acquired(again, "lane:1", "b")).term > former.term
    finally:
        await again.close()


async def test_a_lease_is_held_until_it_runs_out_or_is_given_back(store: Store) -> None:
    assert await store.held_leases() == []
    lane = await acquired(store, "lane:1", "a")
    process = await acquired(store, "process:0", "b")
    back = await acquired(store, "lane:2", "a")
    assert sorted(await store.held_leases(), key=lambda lease: lease.name) == [lane, back, process]
    await store.release_lease(back)
    assert sorted(await store.held_leases(), key=lambda lease: lease.name) == [lane, process]
    await store.release_lease(process)
    await acquired(store, "consumer:tracker", "b", SHORT_MS)

    async def ran_out() -> bool | None:
        return await store.held_leases() == [lane] or None

    assert await eventually(ran_out)


# -- claims --------------------------------------------------------------------------------------------


async def test_the_first_claim_holds(store: Store) -> None:
    assert await store.claim_once("welcome:1", "a", 1000, 100)


async def test_another_may_not_within_the_cooldown_and_may_after_it(store: Store) -> None:
    assert await store.claim_once("welcome:1", "a", 1000, 100)
    assert not await store.claim_once("welcome:1", "b", 1000, 100)
    assert not await store.claim_once("welcome:1", "b", 1099, 100)
    assert await store.claim_once("welcome:1", "b", 1100, 100)


async def test_a_claim_may_be_repeated_by_its_holder(store: Store) -> None:
    assert await store.claim_once("welcome:1", "a", 1000, 100)
    assert await store.claim_once("welcome:1", "a", 1001, 100)
    assert await store.claim_once("welcome:1", "a", 1099, 100)


async def test_a_repeated_claim_counts_from_its_first_time(store: Store) -> None:
    assert await store.claim_once("welcome:1", "a", 1000, 100)
    assert await store.claim_once("welcome:1", "a", 1090, 100)
    assert await store.claim_once("welcome:1", "b", 1100, 100)


async def test_who_held_a_claim_before_may_not_repeat_it(store: Store) -> None:
    assert await store.claim_once("welcome:1", "a", 1000, 100)
    assert await store.claim_once("welcome:1", "b", 1100, 100)
    assert not await store.claim_once("welcome:1", "a", 1101, 100)


async def test_claims_of_other_keys_are_others(store: Store) -> None:
    assert await store.claim_once("welcome:1", "a", 1000, 100)
    assert await store.claim_once("welcome:2", "b", 1000, 100)


async def test_of_many_that_claim_at_once_one_may(store: Store) -> None:
    answers = await asyncio.gather(*(store.claim_once("welcome:1", f"{n}", 1000, 100) for n in range(12)))
    assert answers.count(True) == 1


async def test_of_many_that_claim_at_once_after_the_cooldown_one_may(store: Store) -> None:
    assert await store.claim_once("welcome:1", "first", 1000, 100)
    answers = await asyncio.gather(*(store.claim_once("welcome:1", f"{n}", 2000, 100) for n in range(12)))
    assert answers.count(True) == 1


# -- contacts ------------------------------------------------------------------------------------------


async def test_an_address_that_was_never_put_is_not_found(store: Store) -> None:
    assert await store.find_aliases(["15550001"]) == {}
    assert await store.find_aliases([]) == {}


async def test_just_the_asked_for_addresses_are_found(store: Store) -> None:
    phone = Alias("15550001", "contact-1", "CC.1")
    user = Alias("CC.1", "contact-1", "15550001")
    await store.put_aliases([phone, user, Alias("15550002", "contact-2", at=1_700_000_000_123)])
    assert await store.find_aliases(["15550001", "CC.1", "unknown"]) == {"15550001": phone, "CC.1": user}


async def test_an_address_put_again_takes_the_place_of_the_old(store: Store) -> None:
    await store.put_aliases([Alias("15550001", "contact-1", "CC.1")])
    await store.put_aliases([Alias("15550001", "contact-2"), Alias("15550002", "contact-2")])
    found = await store.find_aliases(["15550001"])
    assert found == {"15550001": Alias("15550001", "contact-2", "")}


async def test_of_two_for_one_address_in_a_call_the_later_stays(store: Store) -> None:
    await store.put_aliases([Alias("15550001", "contact-1"), Alias("15550001", "contact-2")])
    assert (await store.find_aliases(["15550001"]))["15550001"].contact == "contact-2"


async def test_addresses_put_by_calls_under_way_at_once_are_those_of_the_last_call(store: Store) -> None:
    await asyncio.gather(*(store.put_aliases([Alias("15550001", f"contact-{n}")]) for n in range(20)))
    assert (await store.find_aliases(["15550001"]))["15550001"].contact == "contact-19"


# -- life ----------------------------------------------------------------------------------------------


async def test_an_open_store_takes_a_ping(store: Store) -> None:
    await store.ping()


async def test_a_store_closes_twice(store: Store) -> None:
    await store.close()
    await store.close()


async def test_closing_flushes_what_was_accepted(store: Store, make_store: MakeStore) -> None:
    writes = [asyncio.ensure_future(store.append_events([new_event(f"{n}")])) for n in range(5)]
    # One turn of the loop, so that each call has begun.
    await asyncio.sleep(0)
    await store.close()
    assert [len(await write) for write in writes] == [1] * 5
    again = make_store()
    await again.open()
    try:
        assert len(await again.events_after(0, 10)) == 5
    finally:
        await again.close()


async def test_the_epoch_is_that_of_the_first_opening(store: Store, make_store: MakeStore) -> None:
    epoch = store.epoch
    assert epoch
    await store.close()
    again = make_store()
    await again.open()
    try:
        assert again.epoch == epoch
    finally:
        await again.close()


async def test_what_was_agreed_upon_survives_a_new_opening(store: Store, make_store: MakeStore) -> None:
    await store.save_cursor(Cursor("tracker", 5))
    await store.claim_once("welcome:1", "a", 1000, 100)
    await store.put_aliases([Alias("15550001", "contact-1", "CC.1")])
    await store.close()
    again = make_store()
    await again.open()
    try:
        assert await again.load_cursor("tracker") == 5
        assert not await again.claim_once("welcome:1", "b", 1050, 100)
        assert await again.claim_once("welcome:1", "a", 1050, 100)
        assert await again.find_aliases(["15550001"]) == {"15550001": Alias("15550001", "contact-1", "CC.1")}
    finally:
        await again.close()
