"""Who is not to be written to unasked, on every store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.base import Store
from store.records import NewRow, NewTask, Place, Suppression, suppression_after

MakeStore = Callable[[], Store]
T = 1_700_000_000_000


def stop(contact: str = "ann", at: int = T, **more: object) -> Suppression:
    return Suppression(contact, at, **{"reason": "opted_out", "source": "word", **more})  # type: ignore[arg-type]


def back(contact: str = "ann", at: int = T) -> Suppression:
    return Suppression(contact, 0, at, source="word")


async def test_who_never_said_anything_is_not_suppressed(store: Store) -> None:
    assert await store.find_suppressions(["ann"]) == {}
    assert await store.find_suppressions([]) == {}
    assert await store.list_suppressions(10) == []
    assert await store.put_suppressions([]) == []


async def test_a_suppression_is_kept_as_it_was_said(store: Store) -> None:
    ann, bob = stop(note="STOP"), stop("bob", T + 7, source="api", firm=True)
    assert await store.put_suppressions([ann, bob]) == [ann, bob]
    assert await store.find_suppressions(["bob", "ann", "eve"]) == {"ann": ann, "bob": bob}


async def test_who_comes_back_is_suppressed_no_more(store: Store) -> None:
    await store.put_suppressions([stop()])
    (after,) = await store.put_suppressions([back(at=T + 5000)])
    assert (after.since, after.until, after.in_force) == (T, T + 5000, False)
    assert await store.find_suppressions(["ann"]) == {}
    assert await store.list_suppressions(10) == []
    again = stop(at=T + 9000)
    assert await store.put_suppressions([again]) == [again]
    assert await store.find_suppressions(["ann"]) == {"ann": again}


async def test_of_two_words_in_one_call_the_later_counts_and_both_tell_how_it_stands(store: Store) -> None:
    after = await store.put_suppressions([stop(), stop("bob"), back()])
    assert [one.in_force for one in after] == [False, True, False]
    assert set(await store.find_suppressions(["ann", "bob"])) == {"bob"}


async def test_a_word_that_comes_late_changes_nothing(store: Store) -> None:
    await store.put_suppressions([back(at=T + 5000)])
    (after,) = await store.put_suppressions([stop(at=T)])
    assert not after.in_force
    assert await store.find_suppressions(["ann"]) == {}


async def test_words_are_said_to_many_contacts_at_once(store: Store) -> None:
    names = [f"c{n:03}" for n in range(250)]
    await store.put_suppressions([stop(name) for name in names])
    assert set(await store.find_suppressions(names)) == set(names)


async def test_they_are_listed_by_contact_page_by_page(store: Store) -> None:
    await store.put_suppressions([stop(name) for name in ("d", "a", "c", "b", "e")])
    await store.put_suppressions([back("b", T + 5000)])
    first = await store.list_suppressions(2)
    assert [one.contact for one in first] == ["a", "c"]
    assert [one.contact for one in await store.list_suppressions(10, "c")] == ["d", "e"]


async def test_of_many_who_speak_at_once_each_is_heard(make_store: MakeStore, store: Store) -> None:
    """Several processes where the store is shared: the last word by its time stands, whoever wrote it."""
    others = [store] if store.atomic else [store, make_store()]
    for other in others[1:]:
        await other.open()
    words = [(back if n % 2 else stop)(at=T + 1000 * n) for n in range(6)]
    await asyncio.gather(
        *(others[n % len(others)].put_suppressions([word, stop(f"c{n}")]) for n, word in enumerate(words))
    )
    assert set(await store.find_suppressions(["ann", *(f"c{n}" for n in range(6))])) == {
        f"c{n}" for n in range(6)
    }
    for other in others[1:]:
        await other.close()


async def test_they_survive_the_process(make_store: MakeStore) -> None:
    first = make_store()
    await first.open()
    await first.put_suppressions([stop(firm=True)])
    await first.close()
    second = make_store()
    await second.open()
    assert await second.find_suppressions(["ann"]) == {"ann": stop(firm=True)}
    await second.close()


# -- rows --------------------------------------------------------------------------------------------------


def row(n: int, heeds: bool) -> NewRow:
    return NewRow(n, "100", "ann", 0, 0, b"{}", heeds_opt_out=heeds)


async def test_a_row_says_whether_it_heeds_them(store: Store) -> None:
    task = NewTask("t" * 36, "text", "api", 2, T)
    await store.create_task(task, [row(0, True), row(1, False)])
    rows = await store.read_ahead("100", 0, Place(0, 0), 2**53, 10)
    assert [one.heeds_opt_out for one in rows] == [True, False]


async def test_a_task_whose_storing_broke_off_takes_the_counts_of_the_try_that_completes_it(
    store: Store,
) -> None:
    # Somebody has opted out between the two: that task would never have all its rows.
    await store.create_task(NewTask("t" * 36, "text", "api", 3, T), (), ready=False)
    await store.create_task(NewTask("t" * 36, "text", "api", 2, T, 1), (), ready=False)
    await store.add_rows("t" * 36, [row(0, True), row(2, True)])
    await store.mark_ready("t" * 36, counts=(2, 1))
    await store.mark_ready("t" * 36, counts=(9, 9))
    view = await store.find_task("t" * 36)
    assert view is not None
    assert (view.task.total, view.task.skipped) == (2, 1)


# -- the rule ----------------------------------------------------------------------------------------------

FIRM = stop(source="api", firm=True)


@pytest.mark.parametrize(
    ("found", "wanted", "by_operator", "after"),
    [
        (None, stop(), False, stop()),
        (None, back(), False, back()),
        (stop(), stop(at=T + 5000), False, stop(heard=T + 5000)),
        (stop(), stop(), False, stop()),
        (stop(heard=T + 5000), back(at=T + 3000), False, stop(heard=T + 5000)),
        (stop(heard=T + 5000), back(at=T + 7000), False, stop(until=T + 7000)),
        (stop(), back(at=T + 999), False, stop(at=T, until=T + 999)),
        (stop(at=T + 999), back(at=T), False, stop(at=T + 999, until=T)),
        (stop(at=T + 1000), back(at=T), False, stop(at=T + 1000)),
        (back(at=T), back(at=T + 5000), False, back(at=T + 5000)),
        (stop(until=T + 5000), back(at=T + 9000), False, stop(until=T + 5000, heard=T + 9000)),
        (stop(until=T + 5000), stop(at=T + 4000), False, stop(until=T + 5000)),
        (FIRM, back(at=T + 5000), False, FIRM),
        (FIRM, stop(at=T + 5000), False, FIRM),
        (FIRM, back(at=T + 5000), True, stop(source="api", firm=True, until=T + 5000)),
        (stop(), FIRM, True, FIRM),
        (
            FIRM,
            stop(at=T + 5000, source="api", firm=True),
            True,
            stop(source="api", firm=True, heard=T + 5000),
        ),
        (FIRM, stop(at=T + 5000), True, stop(at=T + 5000)),
    ],
)
def test_the_last_word_after_another(
    found: Suppression | None, wanted: Suppression, by_operator: bool, after: Suppression
) -> None:
    assert suppression_after(found, wanted, by_operator) == after


@given(st.lists(st.tuples(st.integers(1, 30), st.booleans()), unique_by=lambda word: word[0]), st.randoms())
def test_the_latest_word_counts_in_whatever_order_and_however_often_they_come(
    words: list[tuple[int, bool]], random: Random
) -> None:
    said = [(back if comes_back else stop)(at=T + 1000 * second) for second, comes_back in words]
    came = [*said, *random.choices(said, k=5)] if said else []
    random.shuffle(came)
    found: Suppression | None = None
    for word in came:
        found = suppression_after(found, word, False)
    if said:
        assert found is not None
        assert found.in_force is max(said, key=lambda word: word.at).in_force
